"""Orders in which criteria remove layers or sublayers: ranks, how they agree, and the layers that go first."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

SCORED = {"influence": "influence", "loss": "loss_increase", "future": "future_shift", "taylor": "taylor"}
"""Criterion -> the measurement that it ranks whole layers by."""
CRITERIA = (*SCORED, "deepest", "attention", "mlp")
"""All criteria that rank layers; the last two rank mixers and MLPs by how little they turn the stream."""


def ranks(scores: Mapping[str, np.ndarray], sublayers: np.ndarray) -> np.ndarray:
    """Ranks [criterion, layer] in the order of CRITERIA, 1 is removed first; NaN where there is no score.

    Args:
        scores: measurement -> score of each layer. sublayers: influence of mixer and MLP, [layer, 2].
    """
    depth = len(sublayers)
    deepest = np.concatenate([-np.arange(depth - 1, dtype=float), [1.0]])  # the last layer goes last
    rows = [scores[SCORED[name]] for name in SCORED]
    return np.stack([_ranked(row) for row in (*rows, deepest, sublayers[:, 0], sublayers[:, 1])])


def correlations(order: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of every pair of criteria over the layers that both rank; NaN below 3 layers."""
    n = len(order)
    found = np.full((n, n), np.nan)
    for i, j in np.ndindex(n, n):
        both = np.isfinite(order[i]) & np.isfinite(order[j])
        if both.sum() >= 3:
            found[i, j] = np.corrcoef(_ranked(order[i][both]), _ranked(order[j][both]))[0, 1]
    return found


def lowest(rank: np.ndarray, n: int, stays: Collection[int] = ()) -> tuple[int, ...] | None:
    """The n layers of the lowest rank that need not stay, first to go first; None where there are fewer."""
    order = [int(k) for k in np.argsort(rank, kind="stable") if np.isfinite(rank[k]) and int(k) not in stays]
    return tuple(order[:n]) if len(order) >= n else None


def flattest(angles: np.ndarray, n: int, stays: Collection[int] = ()) -> tuple[int, ...] | None:
    """The stretch of n layers with the smallest angle that holds none that stays; None where there is none.

    Args:
        angles: of the stretches of n layers by first layer, NaN where a stretch would pass the end.
    """
    free = [
        first
        for first in np.flatnonzero(np.isfinite(angles)).tolist()
        if not set(range(first, first + n)) & set(stays)
    ]
    if not free:
        return None
    first = min(free, key=lambda k: float(angles[k]))
    return tuple(range(first, first + n))


def _ranked(score: np.ndarray) -> np.ndarray:
    """1 for the lowest finite score, of equal ones the first; NaN stays."""
    found = np.full(len(score), np.nan)
    fine = np.flatnonzero(np.isfinite(score))
    found[fine[np.argsort(score[fine], kind="stable")]] = np.arange(1, len(fine) + 1)
    return found
