"""Least squares with intervals over independent units. numpy only, never torch."""

import numpy as np
from jaxtyping import Num, Shaped

from depthscope.measures.laws import Law
from depthscope.measures.statistics import Interval


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
    chance = np.full(len(names), 1 / len(names))
    weights = np.random.default_rng(seed).multinomial(len(names), chance, size=draws).astype(np.float64)
    drawn = _solved(np.einsum("du,uij->dij", weights, gram), weights @ moment)
    drawn = drawn[np.isfinite(drawn).all(1)]
    if not len(drawn):
        drawn = np.full((1, width), np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(value, low, high)


def _solved(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Solutions [draw, column] of gram beta = moment; NaN where the columns depend on each other."""
    found = np.full(moment.shape, np.nan)
    fine = np.linalg.matrix_rank(gram, hermitian=True) == gram.shape[-1]
    if fine.any():
        found[fine] = np.linalg.solve(gram[fine], moment[fine][..., None])[..., 0]
    return found


LAWS = (Law(bootstrap_regression, ()),)
