"""The atlas of heads in the report: a grid to filter, a list to sort, and a card for each head.

All of it is in the page as plain tables and works without scripts; with them cells are shaded by a score, heads are
filtered by label and by value, the list is sorted by its headings, and a head's scores and example arcs are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.report.assets import as_json
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Result

SIGNS = {
    "previous": "P", "self": "S", "offset": "O", "retrieval": "R", "strong_retrieval": "", "induction": "I",
    "strong_induction": "", "duplicate": "D", "grammar": "G", "function_vector": "F", "iteration": "T", "sink": "k",
    "broad": "b", "streaming": "l", "dead": "x",
}  # fmt: skip
"""Label -> its sign in a cell: capitals say what a head is for, small letters where it looks; strong ones have none."""
LISTED = (
    "previous", "self", "sink", "first_weighted", "entropy_norm", "far_mass", "induction", "copying", "duplicate",
    "retrieval", "grammar", "grammar_gain", "function_vector", "iteration", "write_share", "ablation",
)  # fmt: skip
"""Scores that get a column of the list, where they were measured."""


@dataclass(frozen=True)
class HeadCell:
    """One head: where it is, the signs of its labels, and its labels in words."""

    number: int
    head: int
    signs: str
    said: str


@dataclass(frozen=True)
class HeadGrid:
    """What the template draws.

    Args:
        rows: layer and its cells. legend: sign and label of those that occur. columns, listed: the list of heads.
        data: JSON with every score, label and arc.
    """

    heads: tuple[int, ...]
    rows: tuple[tuple[int, tuple[HeadCell, ...]], ...]
    legend: tuple[tuple[str, str, int], ...]
    columns: tuple[str, ...]
    listed: tuple[tuple[str, ...], ...]
    data: str


def head_grid(result: Result) -> HeadGrid | None:
    """The grid of a result that holds one row a head (the table `heads`); None for others."""
    table = result.findings.examples.get("heads")
    if table is None or not {"layer", "head", "labels"} <= set(table.columns):
        return None
    scores = _scores(result, len(table))
    labels = [str(x).split() for x in table.columns["labels"]]
    layers, heads = (np.asarray(table.columns[axis], np.int64) for axis in ("layer", "head"))
    cells = [HeadCell(k, int(heads[k]), _signs(own), _said(own)) for k, own in enumerate(labels)]
    rows = tuple((int(at), tuple(cells[k] for k in np.flatnonzero(layers == at))) for at in np.unique(layers))
    counts = {name: sum(name in own for own in labels) for name in SIGNS}
    legend = tuple((SIGNS[name], _words(name), count) for name, count in counts.items() if count)
    columns = tuple(name for name in LISTED if name in scores)
    listed = tuple(_line(k, layers, heads, labels, scores, columns) for k in range(len(table)))
    data = {
        "places": [f"L{a}H{b}" for a, b in zip(layers.tolist(), heads.tolist(), strict=True)],
        "labels": [[_words(name) for name in own] for own in labels],
        "scores": {name: _numbers(found) for name, found in scores.items()},
        "arcs": _arcs(result.findings.examples.get("arcs"), layers, heads),
    }
    return HeadGrid(tuple(np.unique(heads).tolist()), rows, legend, columns, listed, as_json(data))


def _scores(result: Result, count: int) -> dict[str, Measurement]:
    """Scores by layer and head that have a value, in the order of the result."""
    found = result.findings.measurements
    return {
        name: m
        for name, m in found.items()
        if tuple(m.axes) == ("layer", "head") and m.value.size == count and np.isfinite(m.value).any()
    }


def _signs(labels: list[str]) -> str:
    return "".join(SIGNS.get(name, "?") for name in sorted(labels, key=lambda n: SIGNS.get(n, "?").islower()))


def _words(label: str) -> str:
    return label.replace("_", " ")


def _said(labels: list[str]) -> str:
    return ", ".join(map(_words, labels)) or "no label"


def _line(
    k: int,
    layers: np.ndarray,
    heads: np.ndarray,
    labels: list[list[str]],
    scores: Mapping[str, Measurement],
    columns: tuple[str, ...],
) -> tuple[str, ...]:
    numbers = (float(scores[name].value.ravel()[k]) for name in columns)
    shown = ("" if np.isnan(v) else f"{v:.3f}" for v in numbers)
    return (f"L{layers[k]}H{heads[k]}", ", ".join(map(_words, labels[k])), *shown)


def _numbers(found: Measurement) -> dict[str, Any]:
    """Value, interval and counts to three digits, None where missing."""
    kept: dict[str, Any] = {"unit": found.unit, "note": found.note}
    for part in ("value", "low", "high", "n", "n_items"):
        array = getattr(found, part)
        if array is not None:
            kept[part] = [
                None if np.isnan(v) else float(f"{v:.3g}") for v in np.asarray(array, float).ravel()
            ]
    return kept


def _arcs(table: Table | None, layers: np.ndarray, heads: np.ndarray) -> list[list[list[Any]]]:
    """The example arcs of each head: word, what it looks at, weight."""
    found: list[list[list[Any]]] = [[] for _ in layers]
    if table is None:
        return found
    place = {(int(a), int(b)): k for k, (a, b) in enumerate(zip(layers, heads, strict=True))}
    c = table.columns
    for layer, head, word, at, weight in zip(
        c["layer"], c["head"], c["word"], c["looks_at"], c["weight"], strict=True
    ):
        if (int(layer), int(head)) in place:
            found[place[int(layer), int(head)]].append([str(word), str(at), round(float(weight), 3)])
    return found
