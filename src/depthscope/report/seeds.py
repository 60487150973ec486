"""Architectures side by side, each trained from several seeds: means over seeds, intervals from their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthscope.errors import BadInput
from depthscope.report.compare import Aligned, Comparison, curves_of, names_of, on_grid, shared, text_said
from depthscope.report.summaries import Summary, summaries
from depthscope.results.measurement import Measurement
from depthscope.store.run import Run


@dataclass(frozen=True)
class Group:
    """Runs of one architecture, trained from different seeds: its name, and their places among all runs."""

    name: str
    places: tuple[int, ...]


def compare_seeds(runs: Sequence[Run]) -> Comparison:
    """Lay architectures over each other, each the mean of its seeds.

    Intervals are those of Student's t over the seeds of one architecture, and of Welch's t for differences between two;
    with one seed there is none.

    Raises:
        BadInput: for runs of a single architecture, equal weights given twice, or nothing in common.
    """
    groups = grouped(runs)
    found = curves_of(shared(runs))
    if not found:
        raise BadInput(f"the runs share no measurement over depth; they hold {[list(run) for run in runs]}")
    places = [group.places for group in groups]
    curves = {name: [[one.found[k] for k in group] for group in places] for name, one in found.items()}
    aligned = {name: _aligned(name, each) for name, each in curves.items()}
    singles = {
        name: tuple(float(np.mean([each[k].scalar() for k in group])) for group in places)
        for name, each in shared(runs).items() if not each[0].axes
    }  # fmt: skip
    flat = summaries({name: one.found for name, one in found.items()}, {})
    counts = ", ".join(f"{group.name}: {len(group.places)}" for group in groups)
    said = f"means over seeds ({counts}) with intervals over seeds; {text_said(runs)}"
    return Comparison(
        tuple(g.name for g in groups), said, singles, aligned, tuple(_over(one, places) for one in flat)
    )


def grouped(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Runs of equal family and sizes together, in the order in which they were given.

    Raises:
        BadInput: for a single architecture, or equal weights given twice.
    """
    found: dict[tuple[str, ...], list[int]] = {}
    for place, run in enumerate(runs):
        model = run.manifest.get("model", {})
        what = tuple(str(model.get(key)) for key in ("family", "n_layers", "d_model", "parameters"))
        found.setdefault(what, []).append(place)
    for places in found.values():
        each = [runs[place] for place in places]
        hashes = [run.manifest.get("model", {}).get("weights_hash") for run in each]
        if len(set(hashes)) < len(hashes):
            raise BadInput(
                f"--seeds: {' and '.join(names_of(each))} hold equal weights; give each training once"
            )
    if len(found) < 2:
        raise BadInput(
            f"--seeds compares architectures, and all {len(runs)} runs are of one ({', '.join(next(iter(found)))}: "
            "family, layers, width, parameters); without --seeds they are compared as they are"
        )
    return tuple(Group(f"{what[0]}, {what[1]} layers", tuple(places)) for what, places in found.items())


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first axis with the 95 % interval of Student's t; NaN bounds for a single value."""
    mean, half = np.asarray(values.mean(0)), _half(_error(values), np.asarray(len(values) - 1.0))
    return mean, np.asarray(mean - half), np.asarray(mean + half)


def welch(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mean(other) - mean(one) over their first axes, with the 95 % interval of Welch's t.

    Degrees of freedom by Welch and Satterthwaite: (a + b)^2 / (a^2 / (n - 1) + b^2 / (m - 1)) of the squared standard
    errors a and b. NaN bounds where a side has a single value. Source: Welch 1947.
    """
    apart = np.asarray(other.mean(0) - one.mean(0))
    a, b = _error(one), _error(other)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.asarray(a + b)
        free = np.asarray(error**2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1)))
    half = np.where(error == 0, 0.0, _half(error, free))
    return apart, np.asarray(apart - half), np.asarray(apart + half)


def _error(values: np.ndarray) -> np.ndarray:
    """Squared standard error of the mean; NaN for a single value."""
    return (
        np.asarray(values.var(0, ddof=1) / len(values))
        if len(values) > 1
        else np.full(values.shape[1:], np.nan)
    )


def _half(error: np.ndarray, free: np.ndarray) -> np.ndarray:
    from scipy.stats import t

    return np.asarray(t.ppf(0.975, free) * np.sqrt(error))


def _aligned(name: str, groups: Sequence[Sequence[Measurement]]) -> Aligned:
    grids = [np.stack([on_grid(m) for m in group]) for group in groups]
    value = np.stack([grid.mean(0) for grid in grids])
    apart = [welch(grids[0], grid) for grid in grids]
    difference, low, high = (np.stack([one[k] for one in apart]) for k in range(3))
    difference[0] = low[0] = high[0] = np.where(np.isfinite(value[0]), 0.0, np.nan)
    note = "means over seeds; intervals of Student's and Welch's t"
    return Aligned(name, groups[0][0].unit, tuple(map(_mean, groups)), value, difference, low, high, note)


def _mean(group: Sequence[Measurement]) -> Measurement:
    """The mean of the seeds of one architecture, with their interval; n counts seeds."""
    mean, low, high = mean_interval(np.stack([m.value for m in group]))
    missing = group[0].missing or "missing in a seed"
    count = np.asarray(len(group))
    return replace(group[0], value=mean, low=low, high=high, n=count, n_items=None, missing=missing)


def _over(one: Summary, places: Sequence[Sequence[int]]) -> Summary:
    """A summary of every run as one of every architecture."""
    each = [one.value[list(group)] for group in places]
    value, low, high = (np.array(parts) for parts in zip(*map(mean_interval, each), strict=True))
    apart, below, above = (np.array(p) for p in zip(*(welch(each[0], other) for other in each), strict=True))
    return Summary(one.curve, one.kind, one.unit, value, low, high, apart, below, above)
