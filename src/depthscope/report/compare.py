"""Runs side by side by relative depth: the same measurements on one grid, with differences to the first.

States stand at s / L and layers at (layer + 1) / L, so models of different depth can be laid over each other;
between two labels a value is interpolated linearly, outside the first and the last it is missing.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from depthscope.charts import relative_depth
from depthscope.errors import BadInput
from depthscope.measures.statistics import multiplicities
from depthscope.report.head_comparison import HeadsApart, compare_heads, why_no_heads
from depthscope.report.head_course import HeadCourse, course_of
from depthscope.report.summaries import Summary, summaries
from depthscope.results.measurement import Measurement
from depthscope.store.run import Run
from depthscope.store.totals import DocumentSums, read_sums

GRID = np.linspace(0.0, 1.0, 21)
"""The relative depths at which differences are taken."""

DRAWS = 1_000
"""Bootstrap draws over documents."""


@dataclass(frozen=True)
class Aligned:
    """One measurement of all runs on GRID.

    Args:
        name: "analysis/measurement", with the label of any further axis in brackets.
        unit: its unit.
        curves: the measurement of each run over its own depth axis.
        value: [run, depth]; NaN outside a run's own labels.
        difference: [run, depth], value minus the value of the first run.
        low: [run, depth], lower bound of the difference.
        high: [run, depth], upper bound of the difference.
        interval: how the bounds were made.
    """

    name: str
    unit: str
    curves: tuple[Measurement, ...]
    value: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    interval: str


@dataclass(frozen=True)
class Comparison:
    """What several runs have in common.

    Args:
        runs: one name per run.
        pairing: whether the runs read the same text, in words.
        scalars: "analysis/measurement" -> one value per run.
        aligned: "analysis/measurement" -> its curves.
        summaries: what curves over states come to in one number.
        heads: atlases of heads, each against the first. course: of atlases of checkpoints, see `head_course`.
    """

    runs: tuple[str, ...]
    pairing: str
    scalars: Mapping[str, tuple[float, ...]]
    aligned: Mapping[str, Aligned]
    summaries: tuple[Summary, ...] = ()
    heads: tuple[HeadsApart, ...] = ()
    course: HeadCourse | None = None


def compare(runs: Sequence[Run]) -> Comparison:
    """Lay runs over each other.

    Raises:
        BadInput: fewer than two runs, or runs that share no measurement over depth.
    """
    if len(runs) < 2:
        raise BadInput(f"a comparison needs two runs or more, {len(runs)} was given.")
    same = _same_windows(runs)
    found = shared(runs)
    scalars = {name: tuple(m.scalar() for m in each) for name, each in found.items() if not each[0].axes}
    curves = curves_of(found)
    aligned = {
        name: _aligned(name, curve.found, _documents(runs, curve) if same else None)
        for name, curve in curves.items()
    }
    names = names_of(runs)
    heads, reason = compare_heads(runs, names), why_no_heads(runs, names)
    if not aligned and not scalars and not heads:
        held = "; ".join(f"{run.path} holds {', '.join(run) or 'nothing'}" for run in runs)
        raise BadInput(
            f"the runs share no measurement: {held}. Compare runs of the same analyses"
            + (f"; {reason}" if reason else "")
        )
    draws = {
        name: _draws(runs, curve) for name, curve in curves.items() if list(curve.found[0].axes) == ["state"]
    }
    said = summaries({name: curve.found for name, curve in curves.items()}, draws)
    pairing = "; ".join(filter(None, (text_said(runs), reason)))
    return Comparison(names, pairing, scalars, aligned, said, heads, course_of(runs, names))


def _same_windows(runs: Sequence[Run]) -> bool:
    hashes = {str(run.manifest.get("data", {}).get("hash")) for run in runs}
    return len(hashes) == 1 and hashes != {"None"}


def text_said(runs: Sequence[Run]) -> str:
    """Whether the runs read the same windows, in words; and whether that is for their tokenizers."""
    if _same_windows(runs):
        return "paired: all runs read the same windows"
    cut = {str(run.manifest.get("model", {}).get("tokenizer")) for run in runs}
    if len(cut) > 1 and "None" not in cut:
        return (
            "unpaired: the runs read different windows, since their tokenizers differ; as many tokens are more text "
            "for one than for the other"
        )
    return "unpaired: the runs read different windows"


def names_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """The models' names, with the folder where two are equal."""
    names = [str(run.manifest.get("model", {}).get("name", run.path.name)) for run in runs]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({run.path.name})"
        for name, run in zip(names, runs, strict=True)
    )


def shared(runs: Sequence[Run]) -> dict[str, tuple[Measurement, ...]]:
    """Measurements that every run has with the same axes."""
    shared: dict[str, tuple[Measurement, ...]] = {}
    for analysis in (name for name in runs[0] if all(name in run for run in runs)):
        held = [run[analysis].findings.measurements for run in runs]
        for name, first in held[0].items():
            if all(name in other and list(other[name].axes) == list(first.axes) for other in held):
                shared[f"{analysis}/{name}"] = tuple(other[name] for other in held)
    return shared


@dataclass(frozen=True)
class Curve:
    """One measurement of all runs over depth, and where it stands in the tally that it came from.

    Args:
        found: the measurement of each run. part: names that its part of the tally may have.
        places: for each run the cell of the part's last axis, or None where depth is the only axis.
    """

    analysis: str
    found: tuple[Measurement, ...]
    part: tuple[str, str]
    places: tuple[int | None, ...]


def curves_of(shared: Mapping[str, tuple[Measurement, ...]]) -> dict[str, Curve]:
    """Those over one depth axis; a further axis is split by the labels that all runs share."""
    curves: dict[str, Curve] = {}
    for key, found in shared.items():
        axes = list(found[0].axes)
        if sum(axis in ("state", "layer") for axis in axes) != 1 or {
            "later_layer",
            "other_state",
            "head",
        } & set(axes):
            continue
        split = [axis for axis in axes if axis not in ("state", "layer")]
        labels = [_labels(a, found) for a in split]
        for chosen in product(*labels):
            picked = dict(zip(split, chosen, strict=True))
            tail = "".join(f"[{axis}={label}]" for axis, label in picked.items())
            analysis, _, name = key.partition("/")
            places = tuple(_place(m, picked) for m in found)
            curves[key + tail] = Curve(
                analysis, tuple(m.select(**picked) for m in found), (name + tail, name), places
            )
    return curves


def _labels(axis: str, found: tuple[Measurement, ...]) -> list[object]:
    """Labels that all runs have; of training steps the last of them alone."""
    every = [v for v in found[0].axes[axis] if all(v in m.axes[axis] for m in found)]
    return every[-1:] if axis == "step" else every


def _place(found: Measurement, picked: Mapping[str, object]) -> int | None:
    if len(picked) != 1:
        return None
    ((axis, label),) = picked.items()
    return [str(v) for v in found.axes[axis]].index(str(label))


def _aligned(name: str, found: tuple[Measurement, ...], sums: tuple[DocumentSums, ...] | None) -> Aligned:
    """One measurement of all runs on GRID; with `sums` over the same documents the differences are paired."""
    value = np.stack([on_grid(m) for m in found])
    difference = value - value[0]
    if sums is not None:
        low, high = _paired(found, sums)
        note = f"differences are paired over {len(sums[0].units)} documents, with bootstrap intervals"
        return Aligned(name, found[0].unit, found, value, difference, low, high, note)
    bounds = [_interval(m) for m in found]
    below = np.sqrt((value - [b[0] for b in bounds]) ** 2 + (bounds[0][1] - value[0]) ** 2)
    above = np.sqrt(([b[1] for b in bounds] - value) ** 2 + (value[0] - bounds[0][0]) ** 2)
    note = "intervals of differences add those of the runs as if independent"
    below[0] = above[0] = 0.0
    return Aligned(
        name, found[0].unit, found, value, difference, difference - below, difference + above, note
    )


def _paired(found: tuple[Measurement, ...], sums: tuple[DocumentSums, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the differences to the first run: the same documents are drawn for all runs (seeded)."""
    count = len(sums[0].units)
    weights = multiplicities(count, DRAWS, seed=0).astype(np.float64)
    curves = np.stack([_drawn(m, s, weights) for m, s in zip(found, sums, strict=True)])
    apart = curves - curves[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a depth that no run reaches has no bounds
        low, high = np.nanpercentile(apart, [2.5, 97.5], axis=1)
    return low, high


def _drawn(found: Measurement, sums: DocumentSums, weights: np.ndarray) -> np.ndarray:
    """The curve of each draw of documents on GRID, [draw, depth]."""
    depths = _depths(found)
    return np.stack([_interpolated(depths, row) for row in _means(sums, weights)])


def _means(sums: DocumentSums, weights: np.ndarray) -> np.ndarray:
    """The curve of each draw of documents over its own labels, [draw, label]."""
    bottom = weights @ sums.counts
    return np.divide(weights @ sums.sums, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)


def _draws(runs: Sequence[Run], curve: Curve) -> list[np.ndarray | None]:
    """The curve of every run under draws of its documents, the same draws for the same documents."""
    found: list[np.ndarray | None] = []
    for run, place, m in zip(runs, curve.places, curve.found, strict=True):
        sums = _sums(read_sums(run.path, curve.analysis), curve.part, place, m)
        if sums is None or len(sums.units) < 2:
            found.append(None)
            continue
        digest = hashlib.sha256("\0".join(sums.units).encode()).digest()
        weights = multiplicities(len(sums.units), DRAWS, seed=int.from_bytes(digest[:4]))
        found.append(_means(sums, weights.astype(np.float64)))
    return found


def _documents(runs: Sequence[Run], curve: Curve) -> tuple[DocumentSums, ...] | None:
    """The sums of every run by document, where all runs kept them for the same two documents or more."""
    totals = [read_sums(run.path, curve.analysis) for run in runs]
    sums = [_sums(t, curve.part, p, m) for t, p, m in zip(totals, curve.places, curve.found, strict=True)]
    kept = tuple(s for s in sums if s is not None)
    same = len(kept) == len(runs) and len({s.units for s in kept}) == 1 and len(kept[0].units) > 1
    return kept if same else None


def _sums(
    totals: Mapping[str, DocumentSums], names: tuple[str, str], place: int | None, found: Measurement
) -> DocumentSums | None:
    """The sums behind one curve: the part of its full name, or one cell of the part of the whole measurement."""
    for part in (totals[name] for name in names if name in totals):
        if part.sums.shape[1:] == found.value.shape:
            return part
        if part.sums.ndim == 3 and place is not None and part.sums.shape[1] == found.value.shape[0]:
            return part.cell(place)
    return None


def _depths(found: Measurement) -> np.ndarray:
    axis = next(axis for axis in found.axes if axis in ("state", "layer"))
    return np.array(list(relative_depth(found, axis).values()))


def on_grid(found: Measurement, part: str = "value") -> np.ndarray:
    """The values on GRID, [depth]."""
    return _interpolated(_depths(found), np.asarray(getattr(found, part)))


def _interpolated(depths: np.ndarray, values: np.ndarray) -> np.ndarray:
    seen = np.isfinite(values)
    if seen.sum() < 2:
        return np.full(len(GRID), np.nan)
    order = np.argsort(depths[seen])
    return np.interp(GRID, depths[seen][order], values[seen][order], left=np.nan, right=np.nan)


def _interval(found: Measurement) -> tuple[np.ndarray, np.ndarray]:
    if found.low is None or found.high is None:
        nothing = np.full(len(GRID), np.nan)
        return nothing, nothing
    return on_grid(found, "low"), on_grid(found, "high")
