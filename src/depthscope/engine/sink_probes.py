"""Probes of kinds of tokens: trained and judged on each kind alone, on equally many tokens, split by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from depthscope.engine.measured import difference, mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.measures.token_probes import ridge_predictions, row_cosines
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings

KINDS = ("first", "sink", "normal")
SPLITS = 3
FEWEST = 20
"""Tokens of a kind that a probe needs."""
UNITS = {"label_accuracy": "probability", "own_cosine": "1", "position_error": "tokens"}
FEW = f"fewer than {FEWEST} tokens of this kind, or too few documents"


def probed(
    columns: Mapping[str, np.ndarray], spread: PerDocument, states: Sequence[int], facts: Facts, most: int
) -> Findings:
    """Every score by state and kind with intervals over documents, and sink minus normal."""
    names = tuple(sorted(set(columns["unit"].tolist())))
    shape = (len(names), len(states), len(KINDS))
    sums = {name: np.zeros(shape) for name in UNITS}
    counts = {name: np.zeros(shape, np.int64) for name in UNITS}
    size = min(most, *(int((columns["kind"] == k).sum()) for k in (1, 2)))
    for kind in range(len(KINDS)):
        own = np.flatnonzero(columns["kind"] == kind)
        count = min(most, len(own)) if kind == 0 or size < FEWEST else size
        own = np.random.default_rng([facts.seed, kind]).permutation(own)[:count]
        if len(own) < FEWEST:
            continue
        for state in range(len(states)):
            for name, (units, values) in _judged(columns, np.sort(own), state, facts.seed).items():
                place = np.searchsorted(names, units)
                np.add.at(sums[name][:, state, kind], place, values)
                np.add.at(counts[name][:, state, kind], place, 1)
    parts = {name: PerDocument(names, sums[name], counts[name]) for name in UNITS}
    return Findings(
        {m.name: m for m in _measured(parts, spread, columns, states, facts)}, notes=_notes(columns)
    )


def _judged(
    columns: Mapping[str, np.ndarray], own: np.ndarray, state: int, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Score -> (units, values) of the judged tokens of all splits."""
    vectors, units = columns["vectors"][own].astype(np.float64), columns["unit"][own]
    labels, number = np.unique(columns["label"], return_inverse=True)
    said = np.eye(len(labels))[number[own]]
    place = columns["position"][own].astype(np.float64)[:, None]
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in UNITS}
    documents = np.unique(units)
    for turn in range(SPLITS):
        order = np.random.default_rng([seed, turn, 11]).permutation(documents)
        test = np.isin(units, order[: max(1, len(order) // 5)])
        if test.all() or (~test).sum() < 3:
            continue
        x, z = vectors[~test][:, state], vectors[test][:, state]
        target = vectors[:, 0]
        guess = ridge_predictions(x, said[~test], z)
        found["label_accuracy"].append(
            (units[test], (guess.argmax(1) == number[own][test]).astype(np.float64))
        )
        word = ridge_predictions(x, target[~test], z)
        middle = target[~test].mean(0)
        found["own_cosine"].append(
            (units[test], np.nan_to_num(row_cosines(word - middle, target[test] - middle)))
        )
        where = ridge_predictions(x, place[~test], z)
        found["position_error"].append((units[test], np.abs(where - place[test])[:, 0]))
    joined = {name: parts for name, parts in found.items() if parts}
    return {
        n: (np.concatenate([u for u, _ in p]), np.concatenate([v for _, v in p])) for n, p in joined.items()
    }


def _measured(
    parts: Mapping[str, PerDocument],
    spread: PerDocument,
    columns: Mapping[str, np.ndarray],
    states: Sequence[int],
    facts: Facts,
) -> list[Measurement]:
    axes = {"state": np.array(states), "sinks": np.array(KINDS)}
    at = {"state": axes["state"]}
    found = [
        mean(one, name, axes, UNITS[name], facts, "held-out documents", FEW) for name, one in parts.items()
    ]
    for name, one in parts.items():
        sink, normal = (PerDocument(one.units, one.sums[:, :, k], one.counts[:, :, k]) for k in (1, 2))
        short = f"{name.partition('_')[0]}_gap"
        found.append(difference(normal, sink, short, at, UNITS[name], facts, "sink minus normal", FEW))
    _, count = np.unique(columns["label"][columns["kind"] == 0], return_counts=True)
    share = np.array(float(count.max() / count.sum()) if len(count) else np.nan)
    tokens = np.array([(columns["kind"] == k).sum() for k in range(len(KINDS))], np.float64)
    note = "largest difference of position 0 between windows of a batch, over the largest number there"
    found += [
        mean(spread, "first_spread", at, "1", facts, note),
        Measurement("label_majority", {}, share, "probability", note="of the largest label", missing="no document"),
        Measurement("tokens", {"sinks": axes["sinks"]}, tokens, "1", note="tokens of each kind"),
    ]  # fmt: skip
    return found


def _notes(columns: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    count = int((columns["kind"] == 1).sum())
    if count >= FEWEST:
        return ()
    return (f"Only {count} later sinks were found, a probe needs {FEWEST}: read more documents.",)
