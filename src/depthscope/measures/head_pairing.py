"""Heads of two models side by side: score by score, by where in depth, by level; and labels over a training.

Sources: Pearson 1895 with Fisher's interval; Kantorovich 1942 for the earth mover's distance, which on a line is the
area between two distribution functions (Vallender 1974).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.head_overlap import correlation_interval
from depthscope.measures.laws import Law


class IndexCorrelation(NamedTuple):
    """Pearson's correlation of one score over heads of equal index, its 95 % interval, and how many heads have both."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray


def index_correlation(
    first: Num[np.ndarray, "score head"], second: Num[np.ndarray, "score head"]
) -> IndexCorrelation:
    """Correlation of each score of two models of one architecture, head by head; NaN below 3 heads and for constants.

    Heads have an order only within one training: copies, fine-tuned models and checkpoints can be compared so, two
    trainings cannot.
    """
    both = np.isfinite(first) & np.isfinite(second)
    n = both.sum(1)
    count = np.maximum(n, 1)[:, None]
    x, y = (np.where(both, values, 0.0) for values in (first, second))
    x, y = (np.where(both, v - v.sum(1, keepdims=True) / count, 0.0) for v in (x, y))
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    known = (n >= 3) & (size > 1e-12 * count[:, 0])
    value = np.where(known, np.clip((x * y).sum(1) / np.where(known, size, 1.0), -1, 1), np.nan)
    return IndexCorrelation(value, *correlation_interval(value, n)[1:], n)


class DepthApart(NamedTuple):
    """How far apart two models have a score, in shares of the depth.

    Args:
        distance: earth mover's distance, 0 .. 1. null: its mean over random orders of the second model's heads.
        p: share of those orders with a distance as small or smaller.
    """

    distance: float
    null: float
    p: float


def depth_apart(
    first: Num[np.ndarray, "layer head"],
    second: Num[np.ndarray, "other_layer other_head"],
    draws: int = 200,
    seed: int = 0,
) -> DepthApart:
    """Earth mover's distance of where in depth two models have a score, against heads in random order.

    A layer weighs the mean of its heads' values, from 0 up, and stands at relative depth l / (L - 1). The distance is
    the area between the two distribution functions: the share of weight times how far it moves. The null deals the
    second model's values out anew over its heads; layers without a value keep none. A score that is spread evenly over
    the depth is near in any order: a small distance says something only where p is small.

    Returns:
        NaN where a model has no weight at all.
    """
    values = np.asarray(second, np.float64)
    rng, there = np.random.default_rng(seed), np.isfinite(values)
    dealt = np.repeat(values[None], draws + 1, 0)
    for draw in dealt[1:]:
        draw[there] = rng.permutation(values[there])
    own, others = _layer_weights(np.asarray(first, np.float64)[None]), _layer_weights(dealt)
    if own.sum() <= 0 or others[0].sum() <= 0:
        return DepthApart(np.nan, np.nan, np.nan)
    found = _between(own, others)
    null = found[1:]
    p = (1 + int((null <= found[0] + 1e-12).sum())) / (1 + draws)
    return DepthApart(float(found[0]), float(null.mean()) if draws else np.nan, p)


def values_apart(first: Num[np.ndarray, " head"], second: Num[np.ndarray, " other_head"]) -> float:
    """Earth mover's distance of the values of all heads of two models, in the score's unit; NaN where one has none."""
    from scipy.stats import wasserstein_distance

    known = [v[np.isfinite(v)] for v in (np.asarray(first, np.float64), np.asarray(second, np.float64))]
    return float(wasserstein_distance(*known)) if min(map(len, known)) else np.nan


def birth_step(has: Num[np.ndarray, "step ..."], steps: Num[np.ndarray, " step"]) -> Float[np.ndarray, "..."]:
    """First step from which on a label stays until the last one; NaN where it is not there, or open, at the last.

    Args:
        has: above 0 where the label is there, 0 where not, NaN where open, which counts as not there.
        steps: in ascending order.

    Raises:
        BadInput: when steps do not ascend, or there is none.
    """
    if not len(steps) or (np.diff(steps) <= 0).any():
        raise BadInput(f"steps are {np.asarray(steps).tolist()}: one or more, in ascending order")
    there = np.nan_to_num(np.asarray(has, np.float64)) > 0
    away = ~there
    first = np.where(away.any(0), len(steps) - away[::-1].argmax(0), 0)
    born = np.asarray(steps, np.float64)[np.minimum(first, len(steps) - 1)]
    return np.where(there[-1], born, np.nan)


def top_mean(scores: Num[np.ndarray, "*item head"], share: float = 0.05) -> Float[np.ndarray, "*item"]:
    """Mean of the heads with the largest values: of `share` of those measured, at least one; NaN without any.

    Raises:
        BadInput: for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise BadInput(f"share={share}: above 0 and at most 1")
    values = np.asarray(scores, np.float64)
    known = np.isfinite(values).sum(-1)
    kept = np.maximum(1, np.ceil(share * known - 1e-9)).astype(int)
    order = -np.sort(-np.where(np.isfinite(values), values, -np.inf), -1)
    among = np.arange(values.shape[-1]) < np.minimum(kept, np.maximum(known, 1))[..., None]
    total = np.where(among & np.isfinite(order), order, 0.0).sum(-1)
    return np.where(known > 0, total / kept, np.nan)


def _layer_weights(values: np.ndarray) -> np.ndarray:
    """Mean of the values of each layer that are above 0, [draw, layer]; 0 for layers without one."""
    there = np.isfinite(values)
    return np.where(there, np.maximum(values, 0), 0).sum(-1) / np.maximum(there.sum(-1), 1)


def _between(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area between the distribution function of `own` and each of `others`, [draw]."""
    places = [np.linspace(0, 1, w.shape[1]) if w.shape[1] > 1 else np.zeros(1) for w in (own, others)]
    grid = np.unique(np.concatenate(places))
    first, second = (_reached(w, at, grid) for w, at in zip((own, others), places, strict=True))
    return (np.abs(first - second)[:, :-1] * np.diff(grid)).sum(1)


def _reached(weights: np.ndarray, places: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Share of the weight at or before each place of the grid, [draw, place]."""
    share = weights.cumsum(1) / weights.sum(1, keepdims=True)
    at = np.searchsorted(places, grid, side="right")
    return np.where(at > 0, share[:, np.maximum(at - 1, 0)], 0.0)


LAWS = (
    Law(index_correlation, ()),
    Law(depth_apart, (), {"draws": 3}),
    Law(values_apart, ()),
    Law(birth_step, (), {"steps": np.arange(5)}),
    Law(top_mean, ()),
)
