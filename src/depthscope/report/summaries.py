"""What a curve over depth comes to in one number: its valley, its largest value, how much it moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.charts import relative_depth
from depthscope.report.tables import PageTable, number
from depthscope.results.measurement import Measurement

Curves = np.ndarray
"""[draw, label], the labels in the order of depth."""
FIRST_THIRD = 1 / 3


@dataclass(frozen=True)
class Summary:
    """One number of one curve, of every run.

    Args:
        curve: name of the curve. kind: one of KINDS.
        value, low, high: [run]; bounds are NaN where nothing was drawn.
        difference, below, above: [run], to the first run.
    """

    curve: str
    kind: str
    unit: str
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    difference: np.ndarray
    below: np.ndarray
    above: np.ndarray


def valley_depth(depths: np.ndarray, curves: Curves) -> np.ndarray:
    """Highest value of the first third minus the lowest value of all; 0 or more."""
    return _shoulder(depths, curves) - np.nanmin(curves, -1)


def valley_position(depths: np.ndarray, curves: Curves) -> np.ndarray:
    """Relative depth of the lowest value."""
    return depths[np.nanargmin(curves, -1)]


def valley_recovery(depths: np.ndarray, curves: Curves) -> np.ndarray:
    """Last value minus the lowest: 0 tells a descent from a valley."""
    del depths
    return curves[:, -1] - np.nanmin(curves, -1)


def largest(depths: np.ndarray, curves: Curves) -> np.ndarray:
    """Highest value."""
    del depths
    return np.nanmax(curves, -1)


def variation(depths: np.ndarray, curves: Curves) -> np.ndarray:
    """Total variation: the sum of the sizes of all changes from one label to the next."""
    del depths
    return np.nansum(np.abs(np.diff(curves, axis=-1)), -1)


KINDS: dict[str, Callable[[np.ndarray, Curves], np.ndarray]] = {
    "valley depth": valley_depth, "valley position": valley_position, "valley recovery": valley_recovery,
    "largest": largest, "total variation": variation,
}  # fmt: skip
WANTED = {
    "prompt_entropy": ("valley depth", "valley position", "valley recovery"),
    "sink_share": ("largest",),
    "peak_ratio": ("largest",),
}
"""What else is said of a curve besides its total variation, by the name of its measurement."""


def summaries(
    curves: Mapping[str, Sequence[Measurement]], draws: Mapping[str, Sequence[np.ndarray | None]]
) -> tuple[Summary, ...]:
    """The summaries of curves over states, each of one or more runs.

    Args:
        curves: "analysis/measurement[mode=wei]" -> the curve of each run.
        draws: the same names -> [draw, label] of each run, or None.
    """
    made: list[Summary] = []
    for name, found in curves.items():
        if list(found[0].axes) != ["state"] or any(np.isfinite(m.value).sum() < 2 for m in found):
            continue
        measured = name.partition("/")[2].partition("[")[0]
        made += [
            _one(name, kind, found, draws.get(name, ()))
            for kind in (*WANTED.get(measured, ()), "total variation")
        ]
    return tuple(made)


def summary_table(runs: Sequence[str], found: Sequence[Summary]) -> PageTable:
    """One row a summary: a column for each run, then the differences to the first."""
    minus = "\N{MINUS SIGN}"
    columns = ("curve", "what", *runs, *(f"{run} {minus} {runs[0]}" for run in runs[1:]))
    rows = tuple(
        (
            one.curve, one.kind, *(_cell(*parts) for parts in zip(one.value, one.low, one.high, strict=True)),
            *(_cell(*p) for p in list(zip(one.difference, one.below, one.above, strict=True))[1:]),
        )
        for one in found
    )  # fmt: skip
    note = (
        "Valley depth: highest value of the first third of the depth minus the lowest value; position: relative depth "
        "of the lowest; recovery: last value minus the lowest. Total variation adds up all changes over the depth."
    )
    return PageTable("Curves in one number", columns, rows, heads=2, note=note)


def _one(name: str, kind: str, found: Sequence[Measurement], draws: Sequence[np.ndarray | None]) -> Summary:
    measure, depths = KINDS[kind], [np.array(list(relative_depth(m, "state").values())) for m in found]
    value = np.array([float(measure(d, m.value[None])[0]) for d, m in zip(depths, found, strict=True)])
    drawn = [
        None if one is None else measure(d, one)
        for d, one in zip(depths, draws or [None] * len(found), strict=True)
    ]
    apart = [None if one is None or drawn[0] is None else one - drawn[0] for one in drawn]
    low, high = np.array([_bounds(one) for one in drawn]).T
    below, above = np.array([_bounds(one) for one in apart]).T
    unit = "relative depth" if kind == "valley position" else found[0].unit
    return Summary(name, kind, unit, value, low, high, value - value[0], below, above)


def _shoulder(depths: np.ndarray, curves: Curves) -> np.ndarray:
    return np.nanmax(curves[:, depths <= FIRST_THIRD + 1e-9], -1)


def _bounds(draws: np.ndarray | None) -> tuple[float, float]:
    if draws is None:
        return np.nan, np.nan
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _cell(value: float, low: float, high: float) -> str:
    bounds = f" ({number(low)} to {number(high)})" if np.isfinite([low, high]).all() else ""
    return f"{number(float(value))}{bounds}"
