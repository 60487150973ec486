"""Layer quality: what the vectors of each state are worth in tasks with labels.

Question: Which state gives the best vectors of whole texts for a task, and do states before the last beat the last?

Method: Every text of some task files is read alone and pooled to one vector at every state, in one pass. Labelled
texts: few_shot = accuracy of a logistic regression on 8 examples of each label, 10 draws, scored on the other items;
ridge = accuracy of least squares with each item left out; knn = that of the 5 nearest other items; v_measure =
agreement of k-means clusters with the labels. Pairs with a score: spearman of cosines and scores. Pairs alike or not:
average_precision of the cosines. Queries: ndcg of the first 10 over all candidates, map and mrr over a query's own. A
mode is a pooling, +norm after the model's final norm, +standard with standardised channels, +abtt without the mean
and the first principal directions. All states see the same examples and the same draws of items. gain = best earlier
state minus the last, where one half of the items chooses and the other judges.

How to read: main_score is the curve of each task. A state in as_good cannot be told from the best: the best state
alone says little, best_share says how sure it is. A gain whose interval lies above 0 says that an earlier state beats
the last; below 0, that the last is best. Compare with control: what TF-IDF, the most frequent label and shuffled
labels reach, and with state 0, which knows words but no context.

What misleads: gain_seen is chosen and scored on the same items, so it is above 0 even by chance. Cosines are ruled by a
few large channels in many states: compare the +standard mode before blaming a state. The last state before the final
norm is not what anyone uses: compare +norm. Untrained networks score above chance too (--null untrained). The best
state of one task is not that of another, and a rule made on one model does not hold for the next.

Source: Skean et al. 2025, Layer by Layer (arXiv 2502.02013); Muennighoff et al. 2023, MTEB (arXiv 2210.07316); Mu and
Viswanath 2018 (arXiv 1702.01417).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import DRAWS
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.pooled import each_view
from depthscope.engine.quality_findings import Graded, graded
from depthscope.engine.quality_tasks import Read
from depthscope.engine.tally import Rows, Tally, Vectors
from depthscope.engine.task_scores import METRICS, Scored, scored
from depthscope.engine.view import View
from depthscope.errors import BadInput, UnknownName
from depthscope.materials.labelled import Labelled
from depthscope.materials.labelled_texts import LabelledTexts
from depthscope.measures.pooling import POOLINGS
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

PROCESSED = ("standard", "abtt")
SCORES = tuple(dict.fromkeys(metric for kind in METRICS.values() for metric in kind))
LARGEST = 2**32
"""Bytes of pooled vectors that a run may keep."""
ALL = 2**31


@dataclass(frozen=True)
class LayerQuality:
    """Scores of every state in tasks.

    Args:
        source: task files with commas between them (see `materials.labelled`); "" for packaged sentences.
        limit: items of each task at most, labels in turn; 0 takes all.
        modes: poolings, each with +norm, +standard or +abtt behind it where wanted; the first is the main one.
        scores: which scores; all where empty. shots, draws: examples of a label, and draws, of few_shot.
        max_tokens: longer texts are cut.
    """

    source: str = ""
    limit: int = 400
    modes: tuple[str, ...] = ("mean", "mean+norm")
    scores: tuple[str, ...] = ()
    shots: int = 8
    draws: int = 10
    max_tokens: int = 128

    def __post_init__(self) -> None:
        if not self.modes or len(set(self.modes)) < len(self.modes):
            raise BadInput(f"modes={self.modes}; give one mode or more, each once")
        for mode in self.modes:
            pooling, *rest = mode.split("+")
            if pooling not in POOLINGS:
                raise UnknownName("pooling", pooling, POOLINGS)
            for word in rest:
                if word not in ("norm", *PROCESSED):
                    raise UnknownName("word behind a pooling", word, ("norm", *PROCESSED))
            if len(set(rest) & set(PROCESSED)) > 1:
                raise BadInput(f"mode {mode!r} asks for both {' and '.join(PROCESSED)}; take one")
        for name in self.scores:
            if name not in SCORES:
                raise UnknownName("score", name, SCORES)
        check_ranges(self, limit=at_least(0), shots=at_least(1), draws=at_least(1), max_tokens=at_least(1))

    @property
    def views(self) -> list[tuple[str, bool]]:
        """What is pooled: (pooling, after the final norm), each once."""
        return list(dict.fromkeys(_view(mode) for mode in self.modes))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states of all texts of the tasks."""
        del anatomy
        material = LabelledTexts(self.source, self.limit, self.max_tokens)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One vector a text, view and state, and what the tasks say of the text."""
        del given
        self._fits(seen, model.anatomy)
        pooled = [
            np.stack(
                [vectors.cpu().numpy() for _, vectors in each_view(model, state, batch.mask, self.views)]
            )
            for state in seen.each_state
        ]
        keys = np.asarray([w.index for w in seen.windows], np.uint64)
        return Tally({
            "vectors": Vectors.of(keys, seen.units, np.stack(pooled).transpose(2, 1, 0, 3)),
            "texts": Rows(keys, {"text": np.asarray([w.about["text"] for w in seen.windows], str)}, ALL),
            "items": _items(seen),
        })  # fmt: skip

    def _fits(self, seen: View, anatomy: Anatomy) -> None:
        texts = len(seen.whole.items) if seen.whole else 0
        size = texts * len(self.views) * (anatomy.n_layers + 1) * anatomy.d_model * 4
        if size > LARGEST:
            raise BadInput(
                f"{texts} texts in {len(self.views)} views at {anatomy.n_layers + 1} states of {anatomy.d_model} "
                f"numbers are {size / 2**30:.1f} GiB, more than {LARGEST / 2**30:.0f}; take a smaller limit"
            )

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Scores, best states, gains and controls of every task and mode."""
        views = self.views
        found, read = graded(
            total,
            self.modes,
            lambda mode: views.index(_view(mode)),
            lambda mode: next((word for word in mode.split("+")[1:] if word in PROCESSED), ""),
            lambda task, vectors, names: self._scored(task, vectors, names, facts.seed),
            DRAWS,
            facts.seed,
        )
        named = {m.name: m for m in found.measurements(facts)}
        return Findings(named, notes=tuple(_notes(read, found, self.shots)))

    def _scored(
        self, task: Labelled, vectors: np.ndarray, names: Sequence[str], seed: int
    ) -> tuple[Scored, ...]:
        wanted = names or [m for m in METRICS[task.kind] if not self.scores or m in self.scores]
        if not wanted:
            raise BadInput(
                f"{task.name} is a {task.kind} task, which has none of the scores {', '.join(self.scores)}; it has "
                f"{', '.join(METRICS[task.kind])}"
            )
        return scored(task, vectors, wanted, shots=self.shots, draws=self.draws, seed=seed)


def _view(mode: str) -> tuple[str, bool]:
    pooling, *rest = mode.split("+")
    return pooling, "norm" in rest


def _items(seen: View) -> Rows:
    """One row for each place at which a text of this shard stands in an item."""
    said = [(w.index, *place) for w in seen.windows for place in w.about["items"]]
    text, task, kind, item, slot, slots, of, gold = zip(*said, strict=True)
    names = {"task": task, "kind": kind, "gold": [repr(g) if isinstance(g, float) else g for g in gold]}
    numbers = {"text": text, "item": item, "slot": slot, "slots": slots, "of": of}
    columns = {name: np.asarray(values, str) for name, values in names.items()}
    columns |= {name: np.asarray(values, np.int64) for name, values in numbers.items()}
    place = [k for w in seen.windows for k in range(len(w.about["items"]))]
    key = np.asarray(text, np.uint64) * np.uint64(2**24) + np.asarray(place, np.uint64)
    return Rows(key, columns, ALL)


def _notes(read: Sequence[Read], found: Graded, shots: int) -> Iterator[str]:
    for each in read:
        task = each.task
        many = f", {len(task.labels)} labels" if task.labels else ""
        yield f"{task.name}: {task.kind}, {len(task.items)} items{many}; main score {found.main[task.name]}"
        if each.left_out:
            yield f"{task.name}: {each.left_out} items left out: texts without tokens, or states not finite"
        few = _rare(task, shots)
        if few:
            yield (
                f"{task.name}: {few} labels have {shots} items or fewer; half of their items are examples of few_shot"
            )


def _rare(task: Labelled, shots: int) -> int:
    if task.kind != "classification":
        return 0
    golds = [str(item.gold) for item in task.items]
    return sum(golds.count(label) <= shots for label in task.labels)
