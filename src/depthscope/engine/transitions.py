"""Where the layers change over: transitions of mean curves with intervals over units, or "none found"."""

from __future__ import annotations

import numpy as np

from depthscope.engine.measured import DRAWS
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.measures.statistics import resampled
from depthscope.measures.transitions import last_rise, line_left, two_levels, two_levels_p
from depthscope.results.measurement import Measurement

FIRST, LAST = 2, 1
"""The first two layers and the last one are left out of the search for a change of level."""
ALPHA = 0.05
LEAST = 3


def cosine_crossing(cosines: PerDocument, facts: Facts) -> list[Measurement]:
    """The last layer after which the mean of the cosine curves rises through zero, and how sure that is.

    Args:
        cosines: sums and counts [unit, layer, writer]; writers that a layer lacks have no count.
    """

    def places(curves: np.ndarray) -> np.ndarray:
        there = np.isfinite(curves)
        with np.errstate(invalid="ignore"):
            return last_rise(np.where(there, curves, 0).sum(-1) / there.sum(-1))

    value = float(places(_whole(cosines)[None])[0])
    drawn = places(resampled(cosines.sums, cosines.counts, DRAWS, facts.seed))
    note = f"layer, of {facts.n_layers}; negative there, 0 or more at the next; mean of the three curves"
    none = "none found: the mean of the cosine curves never rises through zero"
    support = np.asarray(np.isfinite(drawn).mean())
    said = "share of bootstrap draws that have such a layer"
    return [
        _located("cosine_crossing", value, drawn, cosines, note, none),
        Measurement("cosine_crossing_support", {}, support, "probability", note=said),
    ]


def norm_change(ratios: PerDocument, facts: Facts) -> list[Measurement]:
    """The layer after which the block's relative norm changes level, accepted only if it beats one level and a line.

    Two levels are fitted to the logarithm of the mean curve over layers 2 .. L-2. They are accepted where a permutation
    of the layers does as well in fewer than ALPHA of the draws and a straight line fits worse.

    Args:
        ratios: sums and counts [unit, layer].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = np.log(_whole(ratios))[FIRST : facts.n_layers - LAST]
        drawn = np.log(resampled(ratios.sums, ratios.counts, DRAWS, facts.seed))
        found = two_levels(curve, LEAST)
        splits = two_levels(drawn[:, FIRST : facts.n_layers - LAST], LEAST)
        p = two_levels_p(curve, DRAWS, facts.seed, LEAST)
    none = _refused(curve, float(found.left), p)
    place, size = (np.nan, np.nan) if none else (float(found.place) + FIRST, float(np.exp(found.size)))
    note = f"last layer of the first level, of {facts.n_layers}"
    ratio = "mean level after over mean level before"
    short = "fewer than six layers, or a layer that writes nothing" if np.isnan(p) else ""
    return [
        _located("norm_change_layer", place, splits.place + FIRST, ratios, note, none),
        _located("norm_change_ratio", size, np.exp(splits.size), ratios, ratio, none),
        Measurement("norm_change_p", {}, np.asarray(p), "1", note="permutation of layers", missing=short),
    ]


def _refused(curve: np.ndarray, left: float, p: float) -> str:
    """Why there is no change of level; empty where there is one."""
    if np.isnan(p):
        return "none found: fewer than six layers between the second and the last, or one that writes nothing"
    line = line_left(curve)
    if p >= ALPHA:
        return f"none found: p = {p:.3g} of two levels against one"
    if line <= left:
        return f"none found: a straight line leaves {line:.0%} of the squared error, two levels {left:.0%}"
    return ""


def _whole(found: PerDocument) -> np.ndarray:
    top, bottom = found.sums.sum(0), found.counts.sum(0)
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


def _located(
    name: str, value: float, drawn: np.ndarray, of: PerDocument, note: str, none: str
) -> Measurement:
    """A place with the interval of the draws that have one, stretched to hold the value."""
    there, units = drawn[np.isfinite(drawn)], len(of.units)
    ends = np.full(2, np.nan)
    if np.isfinite(value) and len(there) and units > 1:
        ends = np.percentile(there, [2.5, 97.5])
    low, high = np.fmin(ends[0], value), np.fmax(ends[1], value)
    known = np.isfinite(ends).all()
    return Measurement(
        name, {}, np.asarray(value), "1",
        np.asarray(low if known else np.nan), np.asarray(high if known else np.nan),
        np.asarray(units), np.asarray(int(of.counts.max(tuple(range(1, of.counts.ndim))).sum())),
        note, none if np.isnan(value) else "",
    )  # fmt: skip
