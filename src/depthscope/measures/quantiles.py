"""Several quantiles of many cells at once, with intervals over independent units. numpy only, never torch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Num, Shaped

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.statistics import Interval, multiplicities


def bootstrap_quantiles(
    values: Num[np.ndarray, "n cell"],
    units: Shaped[np.ndarray, " n"],
    shares: Sequence[float],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """For each share the smallest value of a cell that at least that share of its values do not exceed.

    Intervals are percentiles over draws of whole units; all cells share the draws. How many values of each unit stand
    at or below each value is one matrix [unit, n], so the counts of all draws are one product.

    Returns:
        Interval of shape [share, cell]. NaN for a cell with a NaN; ends are NaN with fewer than 2 units.

    Raises:
        BadInput: for a share outside (0, 1].
    """
    if not all(0 < share <= 1 for share in shares):
        raise BadInput(f"quantiles need shares above 0 and at most 1, found {list(shares)}")
    names, member = np.unique(units, return_inverse=True)
    found = np.full((3, len(shares), values.shape[1]), np.nan)
    if not len(names):
        return Interval(*found)
    weights = multiplicities(len(names), draws, seed)
    whole = np.ones((1, len(names)))
    ends = [100 * (1 - level) / 2, 100 * (1 + level) / 2]
    for cell in np.flatnonzero(~np.isnan(values).any(0)):
        order = np.argsort(values[:, cell], kind="stable")
        ordered, below = values[order, cell], _counted(member[order], len(names))
        for k, share in enumerate(shares):
            found[0, k, cell] = ordered[_first(whole, below, share)[0]]
            if len(names) > 1:
                found[1:, k, cell] = np.percentile(ordered[_first(weights, below, share)], ends)
    return Interval(*found)


def _counted(member: np.ndarray, units: int) -> np.ndarray:
    """How many of the first k values belong to each unit, [unit, n]."""
    return np.cumsum(member[None] == np.arange(units)[:, None], axis=1, dtype=np.int64)


def _first(weights: np.ndarray, below: np.ndarray, share: float) -> np.ndarray:
    """The first place where the weighted count reaches the share, by bisection over all draws together."""
    needed = np.maximum(np.ceil(share * (weights @ below[:, -1]) - 1e-9), 1)
    low, high = np.zeros(len(weights), np.int64), np.full(len(weights), below.shape[1] - 1)
    while (low < high).any():
        middle = (low + high) // 2
        reached = (weights * below[:, middle].T).sum(1) >= needed
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    return low


LAWS = (Law(bootstrap_quantiles, (), {"shares": (0.1, 0.5, 0.9)}),)
