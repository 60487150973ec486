"""What the atlas of heads reads: every score by its name, the analysis that measures it, and its name there."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.engine.needs import Analysis
from depthscope.errors import BadInput, Refused
from depthscope.materials.data import data_path
from depthscope.registry import ANALYSES
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

GRID = ("layer", "head")


@dataclass(frozen=True)
class Source:
    """Where a score comes from.

    Args:
        part: what is taken of the measurement: its "value", its lower end "low", or "errors": the value over its
            standard error, from the interval.
    """

    analysis: str
    measurement: str
    part: str = "value"


SOURCES: Mapping[str, Source] = {
    "previous": Source("head_patterns", "previous"),
    "self": Source("head_patterns", "self"),
    "first": Source("head_patterns", "first"),
    "first_weighted": Source("head_patterns", "first_weighted"),
    "entropy_norm": Source("head_patterns", "entropy_norm"),
    "distance": Source("head_patterns", "distance"),
    "local_32": Source("head_patterns", "local_32"),
    "far_mass": Source("head_patterns", "far_mass"),
    "best_offset": Source("head_patterns", "best_offset"),
    "best_offset_mass": Source("head_patterns", "best_offset_mass"),
    "sink": Source("attention_sinks", "first_share"),
    "retrieval": Source("retrieval_heads", "retrieval"),
    "activation_frequency": Source("retrieval_heads", "activation_frequency"),
    "needle_mass": Source("retrieval_heads", "needle_mass"),
    "echo": Source("retrieval_heads", "echo"),
    "gate": Source("duo_gates", "gate"),
    "prefix_matching": Source("induction_heads", "prefix_matching"),
    "induction": Source("induction_heads", "induction"),
    "duplicate": Source("induction_heads", "duplicate"),
    "copying": Source("induction_heads", "copying"),
    "ov_eigenvalue": Source("induction_heads", "ov_eigenvalue"),
    "grammar": Source("grammar_heads", "best_accuracy"),
    "grammar_gain": Source("grammar_heads", "gain"),
    "grammar_gain_low": Source("grammar_heads", "gain", "low"),
    "function_vector": Source("function_vectors", "indirect_effect"),
    "function_vector_errors": Source("function_vectors", "indirect_effect", "errors"),
    "iteration": Source("iteration_heads", "input_share"),
    "iteration_end": Source("iteration_heads", "end_share"),
}
"""Score -> where it comes from; in the order of the table."""
STANDS_ON = ("head_patterns", "attention_sinks", "induction_heads", "retrieval_heads", "grammar_heads")
"""What an atlas waits for unless told otherwise; gates and function vectors cost more than all of these."""
PARTS = ("value", "low", "high", "n", "n_items")


def answerable(names: tuple[str, ...], anatomy: object) -> tuple[str, ...]:
    """Those of the named analyses that are there and do not refuse the model: a gap of scores, no refusal, else."""
    found: list[str] = []
    for name in names:
        if name not in ANALYSES:
            continue
        analysis: Analysis = ANALYSES[name]()
        try:
            analysis.needs(anatomy)  # pyright: ignore[reportArgumentType]
        except Refused:
            continue
        found.append(name)
    return tuple(found)


def scores_of(given: Mapping[str, Result]) -> dict[str, np.ndarray]:
    """Score -> [value low high n n_items, layer, head] of every score that the given results hold by layer and head.

    What a measurement does not know (an interval, a count) is NaN.
    """
    found: dict[str, np.ndarray] = {}
    for name, source in SOURCES.items():
        result = given.get(source.analysis)
        measured = None if result is None else result.findings.measurements.get(source.measurement)
        if measured is not None and set(GRID) <= set(measured.axes):
            found[name] = _stacked(_over_heads(measured), source.part)
    return found


def _over_heads(measured: Measurement) -> dict[str, np.ndarray | None]:
    """Its parts as [layer, head]: further axes, such as the task, are averaged over; counts take the smallest."""
    axes = list(measured.axes)
    order = [*(axes.index(axis) for axis in GRID), *(k for k, a in enumerate(axes) if a not in GRID)]
    more = tuple(range(2, len(axes)))
    parts: dict[str, np.ndarray | None] = {}
    for part in PARTS:
        array = getattr(measured, part)
        if array is None or (more and part in ("low", "high")):
            parts[part] = None
            continue
        turned = np.asarray(array, np.float64).transpose(order)
        parts[part] = (
            turned if not more else (turned.min(more) if part.startswith("n") else _mean(turned, more))
        )
    return parts


def _mean(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    count = np.isfinite(values).sum(axes)
    return np.where(count > 0, np.nansum(values, axes) / np.maximum(count, 1), np.nan)


def _stacked(parts: Mapping[str, np.ndarray | None], taken: str) -> np.ndarray:
    value = parts["value"]
    assert value is not None
    nothing = np.full(value.shape, np.nan)
    low, high = (nothing if (x := parts[part]) is None else x for part in ("low", "high"))
    counts = [nothing if (x := parts[part]) is None else x for part in ("n", "n_items")]
    if taken == "low":
        return np.stack([low, nothing, nothing, *counts])
    whole = np.stack([value, low, high, *counts])
    return in_errors(whole) if taken == "errors" else whole


def in_errors(parts: np.ndarray) -> np.ndarray:
    """[part, layer, head] of a score as the same of it over its standard error; 0 / 0 is 0, any other x / 0 is NaN."""
    value, low, high, *counts = parts
    error = (high - low) / (2 * 1.959964)
    nothing = np.full(value.shape, np.nan)
    with np.errstate(invalid="ignore"):
        still = np.where((error == 0) & (value == 0), 0.0, np.nan)
        many = np.where(error > 0, value / np.where(error > 0, error, 1), still)
    return np.stack([many, nothing, nothing, *counts])


def imported(path: str, n_layers: int, n_heads: int) -> dict[str, np.ndarray]:
    """Scores of a plain table: CSV with the columns layer, head and one a score; empty cells were not measured.

    Returns:
        Score -> [part, layer, head] like `scores_of`, without intervals and counts.

    Raises:
        BadInput: for a table without layer and head, a head that the model lacks or that comes twice, and what is no
            number.
    """
    place = data_path(path)
    rows = list(csv.DictReader(place.read_text(encoding="utf-8").splitlines()))
    columns = [c for c in (rows[0] if rows else {}) if c not in GRID]
    if not rows or not set(GRID) <= set(rows[0]) or not columns:
        raise BadInput(
            f"{place.name} needs a heading with layer, head and one column a score, and rows below it"
        )
    found = {name: np.full((len(PARTS), n_layers, n_heads), np.nan) for name in columns}
    seen: set[tuple[int, int]] = set()
    for number, row in enumerate(rows, start=2):
        layer, head = (_number(place.name, number, axis, row[axis]) for axis in GRID)
        at = (int(layer), int(head))
        if not (0 <= layer < n_layers and 0 <= head < n_heads) or at in seen or at != (layer, head):
            raise BadInput(
                f"{place.name} line {number}: layer {row['layer']}, head {row['head']} is not there or comes twice; "
                f"the model has {n_layers} layers of {n_heads} heads, counted from 0"
            )
        seen.add(at)
        for name in columns:
            if (row[name] or "").strip():
                found[name][0][at] = _number(place.name, number, name, row[name])
    return found


def _number(where: str, line: int, column: str, text: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where} line {line}: {column} is {text!r}, which is no number") from error
