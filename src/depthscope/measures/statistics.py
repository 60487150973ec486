"""Uncertainty: intervals over independent units, and tests that can say no. numpy only, never torch.

A *unit* is what was drawn independently (a document), not a token. All draws come from one seed.
Sources: Efron and Tibshirani 1993, chapters 13 (percentile interval) and 15 (permutation test); Holm 1979.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

BLOCK = 4_000_000
"""Numbers held at a time where draws are taken in blocks (32 MB); block sizes do not change results."""


class Interval(NamedTuple):
    """A value with the lower and upper end of its interval; arrays of one shape, or three numbers."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def holding(self) -> "Interval":
        """The same with ends that reach the value: the draws of a curved statistic may all lie to one side of it.

        Ends that are NaN stay NaN.
        """
        low, high = np.minimum(self.low, self.value), np.maximum(self.high, self.value)
        return Interval(np.asarray(self.value), np.asarray(low), np.asarray(high))


def multiplicities(units: int, draws: int, seed: int) -> Int[np.ndarray, "draw unit"]:
    """How often each unit occurs in draws with replacement of as many as there are; rows sum to that number."""
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws)


def resampled(
    sums: Num[np.ndarray, " unit *items"], counts: Num[np.ndarray, " unit *items"], draws: int, seed: int
) -> Float[np.ndarray, " draw *items"]:
    """Curves of ratios of sums over units drawn with replacement, one a draw; NaN where a draw has no count."""
    units, items = sums.shape[0], sums.shape[1:]
    weights = multiplicities(units, draws, seed).astype(np.float64)
    top, bottom = (np.asarray(part, np.float64).reshape(units, -1) for part in (sums, counts))
    return _divide(weights @ top, weights @ bottom).reshape(draws, *items)


def bootstrap_ratio(
    sums: Num[np.ndarray, " unit *items"],
    counts: Num[np.ndarray, " unit *items_of_counts"],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Ratio of sums, sum_u sums / sum_u counts, with a percentile bootstrap interval over units.

    A draw gives each unit a multiplicity (multinomial, as many as there are units), so all draws and all
    items are one matrix product [draws, unit] @ [unit, items]; memory is draws x items x 8 bytes, twice.
    Items share their draws.

    Args:
        sums: the sums of each unit.
        counts: the counts of each unit, of the shape of `sums` or of its leading axes.
        draws: number of resamples.
        seed: seed of the draws.
        level: share of the draws inside the interval.

    Returns:
        Interval of shape [*items]. Value NaN where the total count is 0; ends NaN where fewer than 2 units
        have a count, as one unit says nothing about spread. Draws without any count are left out.

    Raises:
        BadInput: the shapes do not fit.
    """
    if counts.shape != sums.shape[: counts.ndim]:
        raise BadInput(
            f"counts {counts.shape} must have the shape of sums {sums.shape} or of its leading axes"
        )
    units, items = sums.shape[0], sums.shape[1:]
    spread = counts.reshape(counts.shape + (1,) * (sums.ndim - counts.ndim))
    top = np.asarray(sums, np.float64).reshape(units, -1)
    bottom = np.broadcast_to(np.asarray(spread, np.float64), sums.shape).reshape(units, -1)
    weights = multiplicities(units, draws, seed).astype(np.float64)
    low, high = _ends(_divide(weights @ top, weights @ bottom), level)
    too_few = (bottom != 0).sum(0) < 2
    low[too_few] = high[too_few] = np.nan
    value = _divide(top.sum(0), bottom.sum(0))
    return Interval(value.reshape(items), low.reshape(items), high.reshape(items))


def bootstrap_difference(
    first_sums: Num[np.ndarray, " unit *items"],
    first_counts: Num[np.ndarray, " unit *items"],
    second_sums: Num[np.ndarray, " unit *items"],
    second_counts: Num[np.ndarray, " unit *items"],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Second ratio of sums minus the first, with a percentile bootstrap interval over their common units.

    Each draw resamples units once for both ratios, so what moves both alike (an easy document) moves their
    difference little: the comparison is paired where units hold items of both sides. Counts may be weights.

    Returns:
        Interval of shape [*items]. Value NaN where a side has no count; ends NaN where a side has fewer than 2 units
        with a count. Draws without any count on a side are left out.
    """
    sides = (first_sums, first_counts, second_sums, second_counts)
    units, items = first_sums.shape[0], first_sums.shape[1:]
    parts = [np.asarray(side, np.float64).reshape(units, -1) for side in sides]
    weights = multiplicities(units, draws, seed).astype(np.float64)
    drawn = [weights @ part for part in parts]
    low, high = _ends(_divide(drawn[2], drawn[3]) - _divide(drawn[0], drawn[1]), level)
    too_few = np.minimum((parts[1] != 0).sum(0), (parts[3] != 0).sum(0)) < 2
    low[too_few] = high[too_few] = np.nan
    total = [part.sum(0) for part in parts]
    value = _divide(total[2], total[3]) - _divide(total[0], total[1])
    return Interval(value.reshape(items), low.reshape(items), high.reshape(items))


def bootstrap_median(
    values: Num[np.ndarray, " n"],
    units: Shaped[np.ndarray, " n"],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Median of the values with a percentile bootstrap interval that resamples whole units.

    `units` names the unit of each value (any labels). NaN values are left out; without any the interval is
    NaN, and with fewer than 2 units its ends are.
    """
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    ordered = values[known][order]
    names, member = np.unique(units[known][order], return_inverse=True)
    if len(names) < 2:
        value = np.median(ordered) if len(ordered) else np.nan
        return Interval(*np.array([value, np.nan, np.nan]))
    weights = multiplicities(len(names), draws, seed)
    medians = [_medians(ordered, weights[block][:, member]) for block in _blocks(draws, len(ordered))]
    low, high = _ends(np.concatenate(medians)[:, None], level)
    return Interval(np.median(ordered), low[0], high[0])


def bootstrap_quantile(
    values: Num[np.ndarray, " n"],
    units: Shaped[np.ndarray, " n"],
    share: float,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The smallest value that at least `share` of the values do not exceed, with an interval that resamples units.

    NaN values are left out; without any the interval is NaN, and with fewer than 2 units its ends are.

    Raises:
        BadInput: for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise BadInput(f"bootstrap_quantile needs a share above 0 and at most 1, found {share}")
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    ordered = values[known][order]
    names, member = np.unique(units[known][order], return_inverse=True)
    if not len(ordered):
        return Interval(*np.full(3, np.nan))
    value = _quantiles(ordered, np.ones((1, len(ordered)), np.int64), share)[0]
    if len(names) < 2:
        return Interval(*np.array([value, np.nan, np.nan]))
    weights = multiplicities(len(names), draws, seed)
    drawn = [_quantiles(ordered, weights[block][:, member], share) for block in _blocks(draws, len(ordered))]
    low, high = _ends(np.concatenate(drawn)[:, None], level)
    return Interval(value, low[0], high[0])


def bootstrap_curve(
    sums: Num[np.ndarray, " unit *items"],
    counts: Num[np.ndarray, " unit *items"],
    statistic: Callable[[np.ndarray], np.ndarray],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """A statistic of a whole curve of ratios of sums, with a percentile bootstrap interval over units.

    Args:
        statistic: curves [draw, *items] -> numbers [draw, *cells], such as the state where a curve crosses a line.

    Returns:
        Interval of shape [*cells]; its ends are NaN with fewer than 2 units.
    """
    units = sums.shape[0]
    whole = _divide(np.asarray(sums, np.float64).sum(0), np.asarray(counts, np.float64).sum(0))
    value = np.asarray(statistic(whole[None]), np.float64)[0]
    drawn = np.asarray(statistic(resampled(sums, counts, draws, seed)), np.float64)
    low, high = _ends(drawn.reshape(draws, -1), level)
    if units < 2:
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    return Interval(value, low.reshape(value.shape), high.reshape(value.shape))


def bootstrap_regression(
    design: Num[np.ndarray, "n column"],
    values: Num[np.ndarray, " n"],
    units: Shaped[np.ndarray, " n"],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Least-squares coefficients with a percentile bootstrap interval that resamples whole units.

    beta minimises sum (y - X beta)^2, so beta = (Xᵀ X)^-1 Xᵀ y; a draw weighs each unit's own Xᵀ X and Xᵀ y by how
    often it was drawn. With X = (1, group) the second coefficient is the difference of two means. Items with a NaN
    are left out. NaN where the columns depend on each other; draws in which they do are left out, and with fewer than
    2 units the ends are NaN.

    Returns:
        Interval of shape [column].
    """
    known = np.isfinite(design).all(1) & np.isfinite(values)
    X, y = np.asarray(design[known], np.float64), np.asarray(values[known], np.float64)
    names, member = np.unique(units[known], return_inverse=True)
    width = design.shape[1]
    gram, moment = np.zeros((len(names), width, width)), np.zeros((len(names), width))
    np.add.at(gram, member, X[:, :, None] * X[:, None, :])
    np.add.at(moment, member, X * y[:, None])
    value = _solved(gram.sum(0)[None], moment.sum(0)[None])[0]
    if len(names) < 2 or np.isnan(value).any():
        nothing = np.full(width, np.nan)
        return Interval(value, nothing, nothing.copy())
    weights = multiplicities(len(names), draws, seed).astype(np.float64)
    drawn = _solved(np.einsum("du,uij->dij", weights, gram), weights @ moment)
    return Interval(value, *_ends(drawn, level))


def weighted_median(values: Num[np.ndarray, " n"], weights: Num[np.ndarray, " n"]) -> float:
    """Value that splits the total weight in half; midpoint of two values where the split falls between them.

    With whole-number weights it is the ordinary median of the values repeated that often. NaN values are left
    out; NaN if no weight is left.

    Raises:
        BadInput: a weight is negative or NaN.
    """
    if not (weights >= 0).all():
        raise BadInput(f"weighted_median needs weights >= 0, the smallest is {weights.min()}")
    values = np.asarray(values, np.float64)
    kept = ~np.isnan(values) & (weights > 0)
    if not kept.any():
        return float("nan")
    order = np.argsort(values[kept], kind="stable")
    return float(_medians(values[kept][order], weights[kept][order][None, :])[0])


def permutation_p(
    first: Num[np.ndarray, " n"], second: Num[np.ndarray, " m"], draws: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p-value of a difference of means under random relabelling.

    (1 + #{draws : |difference| >= |observed|}) / (1 + draws), so never 0. The entries are the units:
    average within documents before. NaN if a group is empty or holds NaN.
    """
    n, pooled = len(first), np.concatenate([first, second]).astype(np.float64)
    if n in (0, len(pooled)) or np.isnan(pooled).any():
        return float("nan")
    pooled = pooled - pooled.mean()
    # With the pooled mean at zero the difference of means is a multiple of the first group's sum.
    limit = abs(pooled[:n].sum()) - 1e-9 * np.abs(pooled).sum()
    generator = np.random.default_rng(seed)
    extreme = 0
    for block in _blocks(draws, len(pooled)):
        relabelled = generator.permuted(np.tile(pooled, (block.stop - block.start, 1)), axis=1)
        extreme += int((np.abs(relabelled[:, :n].sum(1)) >= limit).sum())
    return (1 + extreme) / (1 + draws)


def holm(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """p-values adjusted for testing all of them (family-wise error), by Holm's step-down.

    The i-th smallest of m becomes the running maximum of (m - i + 1) p, at most 1. NaN entries were not
    tested: they stay NaN and do not count for m.
    """
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p_values[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


def _ends(drawn: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the percentile interval of each column (linear between order statistics), without NaN."""
    drawn = np.sort(drawn, axis=0)
    last = (~np.isnan(drawn)).sum(0) - 1
    ends: list[np.ndarray] = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = share * np.maximum(last, 0)
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(last, 0))
        at_below, at_above = (np.take_along_axis(drawn, index[None], axis=0)[0] for index in (below, above))
        ends.append(at_below + (place - below) * (at_above - at_below))
    return ends[0], ends[1]


def _medians(ordered: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted median of ascending values [n] for each row of weights [draws, n]."""
    reached = 2 * np.cumsum(weights, axis=1)
    half = reached[:, -1:] / 2
    lower, upper = (reached >= half).argmax(1), (reached > half).argmax(1)
    return (ordered[lower] + ordered[upper]) / 2


def _quantiles(ordered: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Weighted quantile of ascending values [n] for each row of whole-number weights [draws, n]."""
    reached = np.cumsum(weights, axis=1)
    # the smallest whole number of values that is at least the share of all, safe from rounding of the product
    needed = np.maximum(np.ceil(share * reached[:, -1:] - 1e-9), 1)
    return ordered[(reached >= needed).argmax(1)]


def _solved(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Solutions [draw, column] of gram beta = moment; NaN where the columns depend on each other."""
    found = np.full(moment.shape, np.nan)
    fine = np.linalg.matrix_rank(gram, hermitian=True) == gram.shape[-1]
    if fine.any():
        found[fine] = np.linalg.solve(gram[fine], moment[fine][..., None])[..., 0]
    return found


def _blocks(draws: int, width: int) -> Iterator[slice]:
    """Consecutive slices of the draws that keep draws x width within `BLOCK` numbers."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, draws, step):
        yield slice(start, min(start + step, draws))


LAWS = (
    Law(multiplicities, ()),
    Law(resampled, (), {"draws": 20, "seed": 0}),
    Law(bootstrap_ratio, ("scale_free",)),
    Law(bootstrap_difference, ("scale_free",)),
    Law(bootstrap_median, ()),
    Law(bootstrap_quantile, (), {"share": 0.95}),
    Law(bootstrap_curve, (), {"statistic": np.asarray}),
    Law(bootstrap_regression, ()),
    Law(weighted_median, ("permutation_free",)),
    Law(permutation_p, ("non_negative", "bounded_by_one", "shift_free", "scale_free")),
    Law(holm, ("non_negative", "bounded_by_one")),
)
