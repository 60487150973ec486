"""How scores of heads go together: rank correlations, overlaps of labels, and heads of two models set side by side.

Sources: Spearman 1904; partial correlation given the layer by ranks; Jaccard 1901; the hypergeometric test of an
overlap; Kuhn 1955 for the matching; Iman and Conover 1982 for orders that keep correlations.
"""

from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.statistics import Interval


def rank_correlations(scores: Num[np.ndarray, "score head"]) -> Float[np.ndarray, "score score"]:
    """Spearman's correlation of each pair of scores over the heads that have both; NaN below 3 and for constants."""
    return _each_pair(scores, None)


def rank_correlations_given(
    scores: Num[np.ndarray, "score head"], depth: Num[np.ndarray, " head"]
) -> Float[np.ndarray, "score score"]:
    """Spearman's partial correlation given a third variable, such as the layer.

    r_ab.d = (r_ab - r_ad r_bd) / sqrt((1 - r_ad^2)(1 - r_bd^2)), all over the heads that have both scores; NaN where a
    score is a function of depth.
    """
    return _each_pair(scores, depth)


class Overlap(NamedTuple):
    """Of two sets of heads: Jaccard's index, and the chance of an overlap as large or larger of random sets.

    Args:
        both, either: heads with both labels, and with one at least.
    """

    jaccard: float
    p: float
    both: int
    either: int


def overlap(first: Num[np.ndarray, " head"], second: Num[np.ndarray, " head"]) -> Overlap:
    """Overlap of two labels over the heads on which both are decided.

    p = P(X >= both) with X hypergeometric: the second set drawn at random from those heads. Jaccard is NaN where nobody
    has either label, p where one label has nobody.
    """
    decided = np.isfinite(first) & np.isfinite(second)
    a, b = first[decided] > 0, second[decided] > 0
    both, either = int((a & b).sum()), int((a | b).sum())
    jaccard = both / either if either else float("nan")
    if not a.any() or not b.any():
        return Overlap(jaccard, float("nan"), both, either)
    return Overlap(jaccard, _at_least(both, len(a), int(a.sum()), int(b.sum())), both, either)


def _at_least(both: int, n: int, first: int, second: int) -> float:
    """P(X >= both) for the overlap of two random sets, by whole numbers: exact."""
    ways = sum(comb(first, k) * comb(n - first, second - k) for k in range(both, min(first, second) + 1))
    return ways / comb(n, second)


class Matching(NamedTuple):
    """Heads of one model paired with heads of another by their scores.

    Args:
        pairs: [pair, 2] numbers of heads. correlation: mean over pairs of the correlation of their score profiles.
        p: share of permutations of each score over the second model's heads whose pairs are as near or nearer.
        p_given: the same of permutations that keep the correlations between its scores.
    """

    pairs: np.ndarray
    correlation: float
    p: float
    p_given: float


def matched_heads(
    first: Num[np.ndarray, "head score"],
    second: Num[np.ndarray, "other_head score"],
    draws: int = 100,
    seed: int = 0,
) -> Matching:
    """The pairing of heads with the smallest summed squared distance of z-scored profiles (Hungarian method).

    Scores are z-scored within each model; those that are constant or missing in either are left out. The null permutes
    each score over the second model's heads on its own, which keeps every distribution and breaks the profiles. Scores
    of one pattern go together by their definition, in random weights too: what p_given stands on keeps the ranks'
    correlations (normal scores, then the ranks of draws with these correlations: Iman and Conover 1982), and is passed
    only where kinds of heads agree that no pair of scores tells.

    Raises:
        BadInput: with fewer than 2 usable scores, or fewer than 3 heads on a side.
    """
    usable = _usable(first) & _usable(second)
    if usable.sum() < 2 or min(len(first), len(second)) < 3:
        raise BadInput(
            f"{int(usable.sum())} scores vary in both models, of {len(first)} and {len(second)} heads; a matching "
            "needs 2 scores and 3 heads"
        )
    a, b = (_z(x[:, usable]) for x in (first, second))
    pairs, value, cost = _matched(a, b)
    rng = np.random.default_rng(seed)
    apart = [_matched(a, np.stack([rng.permutation(c) for c in b.T], 1))[2] for _ in range(draws)]
    together = [_matched(a, dealt)[2] for dealt in _correlated_orders(b, draws, rng)]
    p, p_given = ((1 + sum(v <= cost + 1e-9 for v in null)) / (1 + draws) for null in (apart, together))
    return Matching(pairs, value, p, p_given)


def correlation_interval(value: Num[np.ndarray, "*cell"], n: Num[np.ndarray, "*cell"]) -> Interval:
    """95 % intervals of correlations of n pairs by Fisher's z; NaN below 4 pairs."""
    known = np.where(n >= 4, np.asarray(value, np.float64), np.nan)
    z, half = np.arctanh(np.clip(known, -0.999999, 0.999999)), 1.959964 / np.sqrt(np.maximum(n - 3, 1))
    return Interval(np.asarray(value), np.tanh(z - half), np.tanh(z + half)).holding()


def _usable(x: np.ndarray) -> np.ndarray:
    return np.isfinite(x).all(0) & (x.std(0) > 0)


def _z(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def _correlated_orders(b: np.ndarray, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The values of each column in new orders, whose ranks correlate as those of the columns do."""
    from scipy.stats import norm

    ordered, n = np.sort(b, 0), len(b)
    scores = norm.ppf(np.stack([_ranks(column) for column in b.T], 1) / (n + 1))
    values, directions = np.linalg.eigh(np.corrcoef(scores.T))
    root = directions * np.sqrt(np.maximum(values, 0))
    ranks = [(rng.standard_normal(b.shape) @ root.T).argsort(0).argsort(0) for _ in range(draws)]
    return [np.take_along_axis(ordered, each, 0) for each in ranks]


def _matched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Pairs, the mean correlation of their profiles, and their summed squared distance."""
    from scipy.optimize import linear_sum_assignment

    distance = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    rows, columns = linear_sum_assignment(distance)
    x, y = a[rows], b[columns]
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    alike = float(((x * y).sum(1) / np.maximum(size, 1e-300)).mean())
    return np.stack([rows, columns], 1), alike, float(((x - y) ** 2).sum())


def _each_pair(scores: np.ndarray, depth: np.ndarray | None) -> np.ndarray:
    """Correlations of ranks of each pair over the heads that both have; pairs with the same heads go together."""
    there = np.isfinite(scores)
    found = np.full((len(scores), len(scores)), np.nan)
    kinds, number = (
        np.unique(there, axis=0, return_inverse=True) if len(scores) else (there, np.zeros(0, int))
    )
    for a in range(len(kinds)):
        for b in range(a, len(kinds)):
            both = kinds[a] & kinds[b]
            rows = np.flatnonzero((number == a) | (number == b))
            among = _correlations(scores[np.ix_(rows, both)], None if depth is None else depth[both])
            kept = (number[rows][:, None] == a) & (number[rows] == b)
            found[np.ix_(rows, rows)] = np.where(kept | kept.T, among, found[np.ix_(rows, rows)])
    return found


def _correlations(values: np.ndarray, depth: np.ndarray | None) -> np.ndarray:
    n, heads = values.shape
    if heads < 3:
        return np.full((n, n), np.nan)
    every = np.stack([*map(_ranks, values), *([] if depth is None else [_ranks(depth)])])
    centred = every - every.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1)
    unit = np.where(size[:, None] > 0, centred / np.where(size > 0, size, 1)[:, None], np.nan)
    found = np.clip(unit @ unit.T, -1, 1)
    if depth is None:
        return found
    by_depth = np.nan_to_num(found[:n, n])  # one layer only: nothing to take out
    rest = np.outer(1 - by_depth**2, 1 - by_depth**2)
    partial = (found[:n, :n] - np.outer(by_depth, by_depth)) / np.sqrt(np.where(rest > 1e-12, rest, np.nan))
    return np.clip(partial, -1, 1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties share their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


LAWS = (
    Law(rank_correlations, ()),
    Law(rank_correlations_given, ()),
    Law(overlap, ()),
    Law(matched_heads, (), {"draws": 3}),
    Law(correlation_interval, ()),
)
