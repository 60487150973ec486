"""Hartigans' dip: how far a sample is from having one mode, and how rarely one mode is that far. numpy only.

A distribution function with one mode is convex up to the mode and concave behind it; at the mode itself it may jump.
The dip of a sample is the smallest distance, in the supremum norm, of its empirical distribution function F to any such
function. Left of the mode the best one runs along the greatest convex minorant of F, right of it along the least
concave majorant, both moved by the dip. The test is careful: of samples of 500 with two normal modes four standard
deviations apart, the smaller one with weight 0.3, it finds about a third at p < 0.01, and all where five lie between.
Sources: Hartigan and Hartigan 1985 (Annals of Statistics 13), Hartigan 1985 (how the modal interval shrinks).
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law


def dip(values: Num[np.ndarray, " n"]) -> float:
    """The dip of a sample: distance of its distribution function to the nearest one with a single mode.

    Range 1 / (2n), for evenly spaced values, to below 1/4, for two equal values far apart n / 2 times each; 0 where all
    values are equal. Neither the order nor the scale of the values matters. NaN where a value is NaN or there is none.
    """
    x, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    if not len(x) or np.isnan(x[-1]):
        return float("nan")
    if len(x) == 1:
        return 0.0
    upper = np.cumsum(counts) / counts.sum()
    lower = np.concatenate([[0.0], upper[:-1]])
    left, right, found = 0, len(x) - 1, 1 / counts.sum()
    while True:
        inner, away, gap = _narrowed(x[left : right + 1], lower[left : right + 1], upper[left : right + 1])
        if gap <= found:
            return float(found / 2)
        found = max(found, away)
        if inner == (0, right - left):
            return float(found / 2)
        left, right = left + inner[0], left + inner[1]


def _narrowed(x: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[tuple[int, int], float, float]:
    """A smaller modal interval, how far F is from the two hulls outside it, and the widest gap between the hulls.

    The hulls are those of F's lower and upper corners; the new interval is where they are farthest apart.
    """
    below, above = _lower_hull(x, lower), _lower_hull(x, -upper)
    minorant = np.interp(x, x[below], lower[below])
    majorant = np.interp(x, x[above], upper[above])
    gaps = majorant - minorant
    knots = np.union1d(below, above)
    place = int(knots[gaps[knots].argmax()])
    left = int(below[np.searchsorted(below, place, side="right") - 1])
    right = int(above[np.searchsorted(above, place, side="left")])
    outside = [*(upper - minorant)[:left], *(majorant - lower)[right + 1 :]]
    return (left, right), max(outside, default=0.0), float(gaps[place])


def _lower_hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places of the corners of the lower convex hull of points with rising x: from each the flattest way on."""
    corners = [0]
    while corners[-1] < len(x) - 1:
        here = corners[-1]
        slope = (y[here + 1 :] - y[here]) / (x[here + 1 :] - x[here])
        corners.append(here + 1 + int(slope.argmin()))
    return np.asarray(corners)


def dip_p(value: float, n: int, draws: int = 2000, seed: int = 0) -> float:
    """How often a sample of n uniform numbers has at least this dip: (1 + #) / (1 + draws), never 0.

    The uniform distribution is the hardest to tell from several modes among those with one, so the p-value is
    conservative for all others. NaN for a NaN dip.

    Raises:
        BadInput: without a number or a draw.
    """
    if n < 1 or draws < 1:
        raise BadInput(
            f"dip_p compares a sample of n={n} with draws={draws} uniform ones; both are 1 or more"
        )
    if np.isnan(value):
        return float("nan")
    # values that are equal but for rounding are as large
    return float((1 + (_uniform_dips(n, draws, seed) >= value - 1e-12).sum()) / (1 + draws))


@lru_cache(maxsize=16)
def _uniform_dips(n: int, draws: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng([seed, n])
    return np.array([dip(sample) for sample in generator.random((draws, n))])


LAWS = (
    Law(dip, ("non_negative", "bounded_by_one", "shift_free", "scale_free", "permutation_free")),
    Law(dip_p, ("non_negative", "bounded_by_one"), {"value": 0.1, "n": 6, "draws": 50}),
)
