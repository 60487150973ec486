"""Scores of a set of items: each under any weights of the items, so that a bootstrap over items is one call.

`weights` [draw item] says how often an item occurs in each draw; equal to the score of the items so often repeated.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from depthscope.measures.laws import Law

Weights = Num[np.ndarray, "draw item"]


def weighted_mean(
    values: Float[np.ndarray, " item"], gold: Num[np.ndarray, " item"], weights: Weights
) -> Float[np.ndarray, " draw"]:
    """Mean of the items' values; items with NaN (never tested) are left out, and `gold` is not read."""
    del gold
    fine = np.isfinite(values)
    top, bottom = weights[:, fine] @ values[fine], weights[:, fine].sum(1)
    return _divided(top, bottom)


def weighted_spearman(
    values: Float[np.ndarray, " item"], gold: Num[np.ndarray, " item"], weights: Weights
) -> Float[np.ndarray, " draw"]:
    """Spearman's rank correlation of values and gold: Pearson's of their mid-ranks (ties share their mean rank).

    NaN where the values or the gold of a draw are all equal.
    """
    x, y = _ranks(values, weights), _ranks(gold, weights)
    total = np.maximum(weights.sum(1, keepdims=True), 1e-300)
    x, y = (r - (weights * r).sum(1, keepdims=True) / total for r in (x, y))
    norm = np.sqrt((weights * x * x).sum(1) * (weights * y * y).sum(1))
    return _divided((weights * x * y).sum(1), np.where(norm > 1e-9 * total[:, 0] ** 3, norm, 0.0))


def weighted_average_precision(
    values: Float[np.ndarray, " item"], gold: Num[np.ndarray, " item"], weights: Weights
) -> Float[np.ndarray, " draw"]:
    """Area under precision against recall by steps: sum over thresholds of (gain in recall) x precision.

    Equal values fall to one threshold. gold is 1 or 0; NaN in a draw without a 1. Chance is the share of ones.
    """
    order = np.argsort(-values, kind="stable")
    starts = _starts(-values[order])
    positive = weights[:, order] * (gold[order] > 0)
    found = np.add.reduceat(positive, starts, axis=1)
    every = np.add.reduceat(weights[:, order], starts, axis=1)
    precision = _divided(found.cumsum(1), every.cumsum(1))
    return _divided((found * np.nan_to_num(precision)).sum(1), found.sum(1))


def weighted_v_measure(
    values: Float[np.ndarray, " item"], gold: Num[np.ndarray, " item"], weights: Weights
) -> Float[np.ndarray, " draw"]:
    """Agreement of clusters (the values) and labels (the gold): 2 I / (H(cluster) + H(label)), 0..1 (Rosenberg 2007).

    The same as the harmonic mean of homogeneity and completeness. 1 where all are in one cluster and of one label. It
    rises with the number of clusters even by chance: compare with shuffled labels.
    """
    _, cluster = np.unique(values, return_inverse=True)
    _, label = np.unique(gold, return_inverse=True)
    joint = _entropy(cluster * (int(label.max()) + 1) + label, weights)
    both = _entropy(cluster, weights) + _entropy(label, weights)
    return np.where(both <= 1e-12, 1.0, 2 * (both - joint) / np.where(both <= 1e-12, 1.0, both))


def ranked(scores: Float[np.ndarray, " candidate"], relevant: Bool[np.ndarray, " candidate"]) -> np.ndarray:
    """The relevance of candidates in falling order of their scores; of equal scores the irrelevant come first.

    So vectors that are all equal score as badly as they can, not by the order of the file.
    """
    return relevant[np.lexsort((relevant, -scores))]


def reciprocal_rank(relevant: Bool[np.ndarray, " candidate"]) -> float:
    """1 / rank of the first relevant candidate of a ranking; 0 without one."""
    return float(1 / (1 + relevant.argmax())) if relevant.any() else 0.0


def ranking_precision(relevant: Bool[np.ndarray, " candidate"]) -> float:
    """Average precision of one ranking: mean over its relevant candidates of the precision at their rank; 0 without."""
    place = np.flatnonzero(relevant)
    return float(np.mean(np.arange(1, len(place) + 1) / (place + 1))) if len(place) else 0.0


def ndcg(relevant: Bool[np.ndarray, " candidate"], k: int = 10) -> float:
    """Discounted gain of the first k over that of the best order: gain 1, discount log2(1 + rank); 0 without any."""
    discount = 1 / np.log2(np.arange(2, len(relevant) + 2))
    best = discount[: min(k, int(relevant.sum()))].sum()
    return float(discount[:k][relevant[:k]].sum() / best) if best else 0.0


def pair_cosines(
    first: Float[np.ndarray, "*items d"], second: Float[np.ndarray, "*items d"]
) -> Float[np.ndarray, "*items"]:
    """Cosine of each vector with its partner; 0 where one of them is zero."""
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return np.divide((first * second).sum(-1), norms, out=np.zeros(norms.shape), where=norms > 0)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks of the items in each draw, [draw item], up to a constant."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    size = np.add.reduceat(weights[:, order], _starts(group[order]), axis=1).astype(np.float64)
    return (size.cumsum(1) - size / 2)[:, group]


def _starts(ordered: np.ndarray) -> Int[np.ndarray, " group"]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _entropy(group: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(group, kind="stable")
    size = np.add.reduceat(weights[:, order], _starts(group[order]), axis=1)
    p = _divided(size, np.broadcast_to(size.sum(1, keepdims=True), size.shape))
    return -(p * np.log(np.where(p <= 0, 1.0, p))).sum(1)


def _divided(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


LAWS = (
    Law(weighted_mean, ()),
    Law(weighted_spearman, ("bounded_by_one",)),
    Law(weighted_average_precision, ("non_negative", "bounded_by_one")),
    Law(weighted_v_measure, ("non_negative", "bounded_by_one")),
    Law(ranked, ()),
    Law(reciprocal_rank, ("non_negative", "bounded_by_one")),
    Law(ranking_precision, ("non_negative", "bounded_by_one")),
    Law(ndcg, ("non_negative", "bounded_by_one")),
    Law(
        pair_cosines,
        ("bounded_by_one", "scale_free", "symmetric", "rotation_free", "permutation_free", "one_on_equal"),
    ),
)
