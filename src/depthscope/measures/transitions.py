"""Where a curve over depth changes: its last rise through zero, and its best split into two levels. numpy only.

Sources: Hu et al. 2025 (arXiv 2512.14064) for the crossing of cosines as effective depth; the split is the classical
least-squares change point (Hinkley 1970), tested by permutation (Efron and Tibshirani 1993, chapter 15).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from depthscope.measures.laws import Law


class Split(NamedTuple):
    """The best split of curves into two levels, [..].

    place: index of the last value of the first level. size: second level minus first. left: squared error that two
    levels leave, as a share of what one level leaves; 1 where the curve is flat. All NaN where a curve is too short or
    holds NaN.
    """

    place: np.ndarray
    size: np.ndarray
    left: np.ndarray


def last_rise(curves: Float[np.ndarray, "*items n"]) -> Float[np.ndarray, "*items"]:
    """The last index with a value below 0 whose next value is 0 or more; NaN where there is none."""
    with np.errstate(invalid="ignore"):
        rises = (curves[..., :-1] < 0) & (curves[..., 1:] >= 0)
    last = rises.shape[-1] - 1 - rises[..., ::-1].argmax(-1) if rises.shape[-1] else 0
    return np.where(rises.any(-1), last, np.nan)


def two_levels(curves: Float[np.ndarray, "*items n"], least: int = 3) -> Split:
    """The split into two constant levels with the smallest squared error.

    Args:
        least: values that each level holds at least; curves shorter than twice that have no split.
    """
    n = curves.shape[-1]
    if n < 2 * least:
        nothing = np.full(curves.shape[:-1], np.nan)
        return Split(nothing, nothing, nothing)
    centred = curves - curves.mean(-1, keepdims=True)
    before = np.arange(least, n - least + 1)
    summed = np.cumsum(centred, -1)[..., before - 1]
    # two levels explain n / (k (n - k)) times the squared sum of the first k centred values
    explained = summed**2 * n / (before * (n - before))
    best = explained.argmax(-1)
    total = (centred**2).sum(-1)
    gained = np.take_along_axis(explained, best[..., None], -1)[..., 0]
    first = np.take_along_axis(summed, best[..., None], -1)[..., 0]
    k = before[best]
    left = 1 - np.divide(gained, total, out=np.zeros_like(total), where=total > 0)
    known = np.isfinite(total)
    place, size = np.where(known, k - 1.0, np.nan), -first * n / (k * (n - k))
    return Split(place, size, np.where(known, left, np.nan))


def line_left(curve: Float[np.ndarray, " n"]) -> float:
    """Squared error that a straight line leaves, as a share of what one level leaves; 1 where the curve is flat."""
    x, y = np.arange(len(curve)) - (len(curve) - 1) / 2, curve - curve.mean()
    total, spread = float((y**2).sum()), float((x**2).sum())
    return 1.0 if total == 0 or spread == 0 else 1 - float((x * y).sum()) ** 2 / spread / total


def two_levels_p(curve: Float[np.ndarray, " n"], draws: int = 1000, seed: int = 0, least: int = 3) -> float:
    """p-value of the best split when the order of the values means nothing: (1 + #{as good}) / (1 + draws).

    NaN where there is no split. A steady trend has a small p as well: see `line_left`.
    """
    found = float(two_levels(curve, least).left)
    if np.isnan(found):
        return float("nan")
    shuffled = np.random.default_rng(seed).permuted(np.tile(curve, (draws, 1)), axis=1)
    as_good = two_levels(shuffled, least).left <= found + 1e-12
    return (1 + int(as_good.sum())) / (1 + draws)


LAWS = (
    Law(last_rise, ("scale_free",)),
    Law(two_levels, ()),
    Law(line_left, ()),
    Law(two_levels_p, (), {"draws": 20}),
)
