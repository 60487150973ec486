"""From parts of states with labels to probe scores: F1 by input and layer, differences of inputs, controls.

Every probe of a task sees the same items; draws resample the documents of the test part, the same for all inputs, so
that a difference of two inputs is paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from depthscope.engine.measured import DRAWS, part
from depthscope.engine.needs import Facts
from depthscope.engine.tally import Rows, Tally, Vectors
from depthscope.errors import BadInput
from depthscope.materials.token_classes import CLASSES
from depthscope.measures.softmax_probe import f1_counts, macro_f1, micro_f1, softmax_probe
from depthscope.measures.statistics import Interval, multiplicities
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

TASKS = ("domain", "token_type")
SCORES = {"macro_f1": macro_f1, "micro_f1": micro_f1}
INPUTS = ("h", "expected", "novel", "both")
CONTROLS = ("h_scaled", "both_reduced", "h_and_expected", "shuffled")
LEAKY = ("leaky_expected", "leaky_novel")
PAIRS = {"causal": ("expected", "novel"), "leaky": LEAKY}
"""Pairs of inputs whose difference is taken: the first minus the second."""
NO_LEAKY = "no temporal features were given"
FEWEST = 2
"""Training items that a class needs."""


@dataclass(frozen=True)
class Probed:
    """Labelled items of one task, and the parts of their states.

    Args:
        parts: by name, [layer, item, d]. labels: 0..classes-1 of `names`. split: 0 to train, 1 to choose by, 2 to
            test. unit: document.
        absent: classes that were left out, too rare in one of the parts.
    """

    task: str
    parts: Mapping[str, np.ndarray]
    labels: np.ndarray
    split: np.ndarray
    unit: np.ndarray
    names: tuple[str, ...]
    absent: tuple[str, ...]

    @classmethod
    def of(cls, task: str, parts: Mapping[str, np.ndarray], items: Mapping[str, np.ndarray]) -> Probed:
        """The items whose class occurs in every part of the split, and often enough in training.

        Raises:
            BadInput: when fewer than two classes are left.
        """
        said = items["label"] if task == "domain" else np.asarray(CLASSES)[items["type"]]
        split = items["split"]
        names = np.unique(said)
        counts = np.array([[((said == name) & (split == k)).sum() for k in range(3)] for name in names])
        kept = (counts[:, 0] >= FEWEST) & (counts[:, 2] > 0)
        if kept.sum() < 2:
            raise BadInput(
                f"{task}: {kept.sum()} of {len(names)} classes ({', '.join(map(str, names))}) have {FEWEST} items to "
                "train "
                "on and one to test on; a probe needs two, read more documents or positions"
            )
        fine = np.isin(said, names[kept])
        labels = np.searchsorted(names[kept], said[fine])
        every = {*CLASSES} if task == "token_type" else {*names.tolist()}
        absent = tuple(sorted(every - set(names[kept].tolist())))
        own = {name: values[:, fine] for name, values in parts.items()}
        return cls(task, own, labels, split[fine], items["unit"][fine], tuple(map(str, names[kept])), absent)

    @property
    def test_units(self) -> np.ndarray:
        """The document of each test item."""
        return self.unit[self.split == 2]

    def input(self, name: str, layer: int) -> np.ndarray:
        """What a probe reads, [item, width]; h scaled has the length of the novel part."""
        one = {key: values[layer] for key, values in self.parts.items()}
        if name == "both":
            return np.concatenate([one["expected"], one["novel"]], 1)
        if name == "h_and_expected":
            return np.concatenate([one["h"], one["expected"]], 1)
        if name == "h_scaled":
            sizes = (np.linalg.norm(one[k], axis=1, keepdims=True) for k in ("novel", "h"))
            return one["h"] * np.divide(*sizes)
        if name == "both_reduced":
            return _reduced(self.input("both", layer), self.split == 0, one["h"].shape[1])
        return one["h"] if name == "shuffled" else one[name]


@dataclass(frozen=True)
class Scored:
    """One probe's test counts by document, [unit, three, class], and the penalty it chose."""

    counts: np.ndarray
    penalty: float


def probed(total: Tally) -> tuple[np.ndarray, list[Probed]]:
    """The layers, and the items of each task; items stand in the order of their keys."""
    vectors, rows = part(total, "vectors", Vectors), part(total, "items", Rows)
    order = np.argsort(rows.key, kind="stable")
    if not np.array_equiv(rows.key[order], vectors.key):
        raise BadInput(
            "the tally's vectors and labels are of other items; remove the run's parts and run it again"
        )
    items = {name: values[order] for name, values in rows.columns.items()}
    layers = part(total, "reference", Rows).columns["layer"][0]
    values = np.moveaxis(vectors.values, 0, 2)  # [layer, kind, item, d]
    parts = {"h": values[:, 0], "expected": values[:, 1], "novel": values[:, 0] - values[:, 1]}
    if values.shape[1] == 3:
        parts |= {"leaky_expected": values[:, 2], "leaky_novel": values[:, 0] - values[:, 2]}
    return layers, [Probed.of(task, parts, items) for task in TASKS]


def scored(one: Probed, name: str, layer: int, penalties: tuple[float, ...], steps: int, seed: int) -> Scored:
    """Fit a probe of one input at one layer and count what it says of the test items."""
    x = one.input(name, layer)
    train, validation, test = (one.split == k for k in range(3))
    labels = one.labels[train]
    if name == "shuffled":
        labels = np.random.default_rng([seed, layer]).permutation(labels)
    fitted = softmax_probe(x[train], labels, x[validation], one.labels[validation], x[test], penalties, steps)
    counts = f1_counts(fitted.predicted, one.labels[test], len(one.names))
    return Scored(_by_unit(counts, one.test_units), fitted.penalty)


def findings(
    total: Tally, facts: Facts, controls: Sequence[str], penalties: tuple[float, ...], steps: int
) -> Findings:
    """All probes of all tasks, inputs and layers."""
    layers, tasks = probed(total)
    inputs = [*INPUTS, *controls, *(LEAKY if LEAKY[0] in tasks[0].parts else ())]
    cells = {
        (one.task, name, k): scored(one, name, k, penalties, steps, facts.seed)
        for one in tasks for name in inputs for k in range(len(layers))
    }  # fmt: skip
    axes = {"task": np.asarray(TASKS), "score": np.asarray(list(SCORES))}
    depth = {"layer": layers.astype(np.int64)}
    drawn = {one.task: drawn_weights(one, facts.seed) for one in tasks}
    found = [
        _f1(tasks, inputs, cells, drawn, {**axes, "feature": np.asarray(inputs), **depth}),
        *_differences(tasks, cells, drawn, axes, depth),
        _penalties(inputs, cells, {"task": axes["task"], "feature": np.asarray(inputs), **depth}),
        _majority(tasks, axes),
    ]
    return Findings({m.name: m for m in found}, {"token_classes": _table(total)}, notes=tuple(_notes(tasks)))


Cells = Mapping[tuple[str, str, int], Scored]


def _f1(
    tasks: Sequence[Probed], inputs: Sequence[str], cells: Cells, drawn: Mapping[str, np.ndarray],
    axes: Mapping[str, np.ndarray],
) -> Measurement:  # fmt: skip
    shape = tuple(len(labels) for labels in axes.values())
    value, low, high = (np.full(shape, np.nan) for _ in range(3))
    n, items = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for t, one in enumerate(tasks):
        for s, score in enumerate(SCORES.values()):
            for f, name in enumerate(inputs):
                for k in range(shape[3]):
                    counts = cells[one.task, name, k].counts
                    interval = ends(score(counts.sum(0)[None]), score(resampled(counts, drawn[one.task])))
                    value[t, s, f, k], low[t, s, f, k], high[t, s, f, k] = interval
        n[t], items[t] = len(np.unique(one.test_units)), len(one.test_units)
    note = "test documents resampled; micro F1 of one label an item is its accuracy"
    return Measurement("f1", axes, value, "1", low, high, n, items, note)


def _differences(
    tasks: Sequence[Probed], cells: Cells, drawn: Mapping[str, np.ndarray],
    axes: Mapping[str, np.ndarray], depth: Mapping[str, np.ndarray],
) -> Iterator[Measurement]:  # fmt: skip
    """Expected minus novel at each layer, and its mean over layers, in the same draws."""
    count = len(depth["layer"])
    shape = (len(tasks), len(SCORES), len(PAIRS), count)
    each, whole = np.full((3, *shape), np.nan), np.full((3, *shape[:3]), np.nan)
    n, items = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for t, one in enumerate(tasks):
        for s, score in enumerate(SCORES.values()):
            for p, pair in enumerate(PAIRS.values()):
                if (one.task, pair[0], 0) not in cells:
                    continue
                sides = [[cells[one.task, name, k].counts for k in range(count)] for name in pair]
                alone, many = (
                    np.stack([score(turn(counts)) for counts in sides[0]])
                    - np.stack([score(turn(counts)) for counts in sides[1]])
                    for turn in (_whole, partial(resampled, weights=drawn[one.task]))
                )
                each[:, t, s, p] = np.stack([ends(alone[k], many[k]) for k in range(count)], 1)
                whole[:, t, s, p] = ends(alone.mean(0), many.mean(0))
                n[t, s, p], items[t, s, p] = len(np.unique(one.test_units)), len(one.test_units)
    there = {**axes, "variant": np.asarray(list(PAIRS))}
    missing = NO_LEAKY if np.isnan(each[0]).any() else ""
    note = "F1 of the predictable part minus that of the novel part; paired draws of test documents"
    yield Measurement(
        "difference", {**there, **depth}, each[0], "1", each[1], each[2], n, items, note, missing
    )
    yield Measurement(
        "ordering",
        there,
        whole[0],
        "1",
        whole[1],
        whole[2],
        n[..., 0],
        items[..., 0],
        f"{note}; mean over layers",
        missing,
    )


def _penalties(inputs: Sequence[str], cells: Cells, axes: Mapping[str, np.ndarray]) -> Measurement:
    value = np.array([
        [[cells[task, name, k].penalty for k in range(len(axes["layer"]))] for name in inputs] for task in TASKS
    ])  # fmt: skip
    return Measurement(
        "penalty", axes, value, "1", note="chosen by the weighted loss of the validation documents"
    )


def _majority(tasks: Sequence[Probed], axes: Mapping[str, np.ndarray]) -> Measurement:
    """F1 of always naming the most frequent training class."""
    value = np.full((len(tasks), len(SCORES)), np.nan)
    for t, one in enumerate(tasks):
        most = int(np.bincount(one.labels[one.split == 0]).argmax())
        true = one.labels[one.split == 2]
        counts = f1_counts(np.full_like(true, most), true, len(one.names)).sum(0)[None]
        value[t] = [score(counts)[0] for score in SCORES.values()]
    return Measurement("majority", axes, value, "1", note="the most frequent training class everywhere")


def _notes(tasks: Sequence[Probed]) -> Iterator[str]:
    for one in tasks:
        sizes = ", ".join(
            f"{(one.split == k).sum()} to {word}" for k, word in enumerate(("train", "choose", "test"))
        )
        documents = len(np.unique(one.unit))
        yield f"{one.task}: {len(one.names)} classes, {len(one.labels)} items of {documents} documents ({sizes})"
        if one.absent:
            yield f"{one.task}: left out, too rare: {', '.join(one.absent)}"


def _table(total: Tally) -> Table:
    """The class of every token that was probed, and how often it was."""
    rows = part(total, "items", Rows).columns
    ids, first, counts = np.unique(rows["id"], return_index=True, return_counts=True)
    return Table({
        "id": ids, "token": rows["text"][first], "class": np.asarray(CLASSES)[rows["type"][first]], "count": counts,
    })  # fmt: skip


def _reduced(x: np.ndarray, train: np.ndarray, width: int) -> np.ndarray:
    """Scores on the `width` principal directions of the training items, channels standardised first."""
    middle, spread = x[train].mean(0), x[train].std(0)
    scaled = (x - middle) / np.where(spread > 0, spread, 1.0)
    _, vectors = np.linalg.eigh(scaled[train].T.astype(np.float64) @ scaled[train])
    return (scaled @ vectors[:, ::-1][:, :width]).astype(np.float32)


def _by_unit(counts: np.ndarray, units: np.ndarray) -> np.ndarray:
    names, place = np.unique(units, return_inverse=True)
    found = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(found, place, counts)
    return found


def drawn_weights(one: Probed, seed: int) -> np.ndarray:
    """How often each test document stands in each draw, [draw, unit]."""
    return multiplicities(len(np.unique(one.test_units)), DRAWS, seed).astype(np.float64)


def resampled(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Counts of each draw of documents, [draw, three, class]."""
    return (weights @ counts.reshape(len(counts), -1)).reshape(len(weights), *counts.shape[1:])


def _whole(counts: np.ndarray) -> np.ndarray:
    return counts.sum(0)[None]


def ends(value: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Value, low and high."""
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return np.stack(Interval(value[0], low, high).holding())
