"""Partial rank correlation: whether two quantities go together beyond what further ones say of both.

Source: Kendall 1942 (partial rank correlation); the recursion of partial correlations is Yule's, 1907.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Num, Shaped

from depthscope.measures.laws import Law
from depthscope.measures.statistics import Interval, multiplicities

Correlation = Callable[[int, int], np.ndarray]


def partial_rank_correlation(
    values: Num[np.ndarray, "n cell"],
    others: Num[np.ndarray, "n cell"],
    given: Num[np.ndarray, "given n cell"],
    units: Shaped[np.ndarray, " n"],
    pooled: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Spearman's correlation in every cell with the ranks of `given` taken out of both; 95 % interval over units.

    Mid-ranks are taken within each cell over the items that have all numbers, so a NaN leaves an item out of its
    cell; a draw weighs ranks and does not take them anew. Without any `given` it is the plain correlation.

    Args:
        pooled: one number for all cells together, from ranks within each cell: what a cell has in common does not
            count.

    Returns:
        Interval of shape [cell], or [1] where pooled. NaN where a quantity does not vary or the given ones explain
        all of it; the ends are NaN with fewer than 2 units.
    """
    quantities = [np.asarray(v, np.float64) for v in (values, others, *given)]
    names, member = np.unique(units, return_inverse=True)
    whole = np.asarray(np.isfinite(np.stack(quantities)).all(0))
    ranks = [_ranks(v, whole) for v in quantities]
    products = [ranks[a] * ranks[b] for a, b in _pairs(len(ranks))]
    sums = np.zeros((len(names), 1 + len(ranks) + len(products), values.shape[1]))
    np.add.at(sums, member, np.stack([whole.astype(np.float64), *ranks, *products], 1))
    sums = sums.sum(2, keepdims=True) if pooled else sums
    value = _partial(sums.sum(0)[None], len(ranks))[0]
    if len(names) < 2:
        nothing = np.full_like(value, np.nan)
        return Interval(value, nothing, nothing.copy())
    weights = _weights(len(names), draws, seed)
    drawn = _partial((weights @ sums.reshape(len(names), -1)).reshape(draws, *sums.shape[1:]), len(ranks))
    ends = np.full((2, sums.shape[2]), np.nan)
    fine = np.isfinite(drawn).any(0) & np.isfinite(value)
    if fine.any():
        ends[:, fine] = np.nanquantile(drawn[:, fine], [0.025, 0.975], axis=0)
    return Interval(value, *ends)


def _pairs(count: int) -> list[tuple[int, int]]:
    """All pairs of quantities, each with itself too."""
    return [*((k, k) for k in range(count)), *combinations(range(count), 2)]


def _ranks(values: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Mid-ranks in each cell of the items that count, centred and as shares of their number; 0 for the others."""
    from scipy.stats import rankdata

    n = whole.sum(0)
    ranks = rankdata(np.where(whole, values, np.inf), axis=0)  # items that do not count come last
    return np.where(whole, (ranks - (n + 1) / 2) / np.maximum(n, 1), 0.0)


@lru_cache(maxsize=2)
def _weights(units: int, draws: int, seed: int) -> np.ndarray:
    """Draws of units, kept: one analysis asks for the same many times."""
    return multiplicities(units, draws, seed).astype(np.float64)


def _partial(sums: np.ndarray, count: int) -> np.ndarray:
    """[draw, (n, sums, sums of products), cell] -> partial correlation of the first two, [draw, cell]."""
    n = np.maximum(sums[:, 0], 1e-12)
    first = sums[:, 1 : 1 + count]
    place = {pair: 1 + count + k for k, pair in enumerate(_pairs(count))}

    def covariance(a: int, b: int) -> np.ndarray:
        a, b = min(a, b), max(a, b)
        return sums[:, place[a, b]] - first[:, a] * first[:, b] / n

    def correlation(a: int, b: int) -> np.ndarray:
        return _divided(covariance(a, b), covariance(a, a) * covariance(b, b))

    found: Correlation = correlation
    for given in range(2, count):
        found = _without(found, given)
    return np.clip(found(0, 1), -1, 1)


def _without(correlation: Correlation, given: int) -> Correlation:
    """Correlations with one more quantity taken out: (r_ab - r_ag r_bg) / sqrt((1 - r_ag^2)(1 - r_bg^2))."""

    def partial(a: int, b: int) -> np.ndarray:
        ag, bg = correlation(a, given), correlation(b, given)
        return _divided(correlation(a, b) - ag * bg, (1 - ag**2) * (1 - bg**2))

    return partial


def _divided(top: np.ndarray, square: np.ndarray) -> np.ndarray:
    """The ratio top / sqrt(square), NaN where nothing varies."""
    return np.divide(
        top, np.sqrt(np.maximum(square, 0)), out=np.full(top.shape, np.nan), where=square > 1e-12
    )


LAWS = (Law(partial_rank_correlation, (), {"draws": 9}),)
