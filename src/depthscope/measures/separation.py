"""How well a number tells two groups apart, and which of many such findings to believe. numpy only, never torch.

Sources: Hanley and McNeil 1982 (area under the curve as a share of pairs); Mann and Whitney 1947; Benjamini and
Hochberg 1995; Spearman 1904.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

from depthscope.measures.laws import Law
from depthscope.measures.statistics import Interval


def auc(
    values: Num[np.ndarray, " n"],
    high: Bool[np.ndarray, " n"],
    units: Shaped[np.ndarray, " n"],
    draws: int = 500,
    seed: int = 0,
) -> Interval:
    """Share of pairs, one item of each group, in which the item of the high group has the larger value; ties half.

    Range 0 .. 1, 1/2 where the value says nothing. The 95 % percentile interval resamples whole units. NaN where a
    group is empty; its ends are NaN with fewer than 2 units. Items without a value are left out.
    """
    known = np.isfinite(values)
    x, high, units = np.asarray(values, np.float64)[known], high[known], units[known]
    if not high.any() or high.all():
        return Interval(*np.full(3, np.nan))
    pairs = (x[high][None] > x[~high][:, None]) + 0.5 * (x[high][None] == x[~high][:, None])
    names, member = np.unique(units, return_inverse=True)
    value = pairs.mean()
    if len(names) < 2:
        return Interval(*np.array([value, np.nan, np.nan]))
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    items = weights[:, member].astype(np.float64)
    size = items[:, ~high].sum(1) * items[:, high].sum(1)
    won = ((items[:, ~high] @ pairs) * items[:, high]).sum(1)
    drawn = won[size > 0] / size[size > 0]
    low, top = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return Interval(value, np.asarray(low), np.asarray(top))


def rank_sum_p(values: Num[np.ndarray, " n"], high: Bool[np.ndarray, " n"]) -> float:
    """Two-sided p that both groups have one distribution: Mann and Whitney's, normal with correction for ties.

    NaN where a group is empty, 1 where all values are equal. Items without a value are left out.
    """
    known = np.isfinite(values)
    x, high = np.asarray(values, np.float64)[known], high[known]
    n, m, total = int(high.sum()), int((~high).sum()), len(x)
    if not n or not m:
        return math.nan
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    won = ranks[high].sum() - n * (n + 1) / 2
    ties = (counts**3 - counts).sum() / (total * (total - 1)) if total > 1 else 0.0
    variance = n * m / 12 * (total + 1 - ties)
    if variance <= 1e-12:
        return 1.0
    return math.erfc(abs(won - n * m / 2) / math.sqrt(2 * variance))


def false_discovery(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """q-values: the smallest share of false findings at which a test would count, by Benjamini and Hochberg.

    The i-th smallest of m becomes the running minimum, from the largest down, of m p / i. NaN entries were not tested:
    they stay NaN and do not count for m.
    """
    found = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    found[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return found


def rank_correlation(
    values: Num[np.ndarray, "n cell"],
    others: Num[np.ndarray, "n cell"],
    units: Shaped[np.ndarray, " n"],
    draws: int = 500,
    seed: int = 0,
) -> Interval:
    """Spearman's correlation in every cell, with a 95 % percentile interval that resamples whole units.

    Ranks are those among all items, so a draw weighs ranks and does not take them anew. NaN where either side is all
    equal; the ends are NaN with fewer than 2 units.
    """
    names, member = np.unique(units, return_inverse=True)
    x, y = _ranks(values), _ranks(others)
    sums = np.zeros((len(names), 6, x.shape[1]))
    np.add.at(sums, member, np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1))
    value = _correlation(sums.sum(0)[None])[0]
    if len(names) < 2:
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    flat = weights.astype(np.float64) @ sums.reshape(len(names), -1)
    drawn = _correlation(flat.reshape(draws, 6, -1))
    ends = np.full((2, x.shape[1]), np.nan)
    fine = np.isfinite(drawn).any(0) & np.isfinite(value)
    if fine.any():
        ends[:, fine] = np.nanquantile(drawn[:, fine], [0.025, 0.975], axis=0)
    return Interval(value, *ends)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Centred ranks of each column, ties averaged."""
    columns: list[np.ndarray] = []
    for column in np.asarray(values, np.float64).T:
        _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
        columns.append((np.cumsum(counts) - (counts - 1) / 2)[place])
    found = np.stack(columns, 1)
    return found - found.mean(0)


def _correlation(sums: np.ndarray) -> np.ndarray:
    """[draw, (1, x, y, xx, yy, xy), cell] -> correlation [draw, cell]."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, 1, 0)
    n = np.maximum(n, 1e-12)
    spread = (xx - x * x / n) * (yy - y * y / n)
    above = xy - x * y / n
    return np.divide(above, np.sqrt(np.maximum(spread, 0)), out=np.full(x.shape, np.nan), where=spread > 1e-9)


LAWS = (
    Law(auc, ("non_negative", "bounded_by_one", "shift_free", "scale_free"), {"draws": 20}),
    Law(rank_sum_p, ("non_negative", "bounded_by_one", "shift_free", "scale_free")),
    Law(
        false_discovery, ("non_negative", "bounded_by_one"), {"p_values": np.array([0.01, 0.2, np.nan, 0.02])}
    ),
    Law(rank_correlation, ("scale_free",), {"draws": 20}),
)
