"""How scores of heads go together: rank correlations, overlaps of labels, and heads of two models set side by side.

Sources: Spearman 1904; partial correlation given the layer by ranks; Jaccard 1901; the hypergeometric test of an
overlap; Kuhn 1955 for the matching.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.statistics import Interval


def rank_correlations(scores: Num[np.ndarray, "score head"]) -> Float[np.ndarray, "score score"]:
    """Spearman's correlation of each pair of scores over the heads that have both; NaN below 3 and for constants."""
    n = len(scores)
    found = np.full((n, n), np.nan)
    for a in range(n):
        for b in range(a, n):
            both = np.isfinite(scores[a]) & np.isfinite(scores[b])
            found[a, b] = found[b, a] = _pearson(_ranks(scores[a][both]), _ranks(scores[b][both]))
    return found


def rank_correlations_given(
    scores: Num[np.ndarray, "score head"], depth: Num[np.ndarray, " head"]
) -> Float[np.ndarray, "score score"]:
    """Spearman's partial correlation given a third variable, such as the layer.

    r_ab.d = (r_ab - r_ad r_bd) / sqrt((1 - r_ad^2)(1 - r_bd^2)), all over the heads that have both scores; NaN where a
    score is a function of depth.
    """
    n = len(scores)
    found = np.full((n, n), np.nan)
    for a in range(n):
        for b in range(a, n):
            both = np.isfinite(scores[a]) & np.isfinite(scores[b])
            x, y, z = (_ranks(v[both]) for v in (scores[a], scores[b], depth))
            ab, ad, bd = _pearson(x, y), _pearson(x, z), _pearson(y, z)
            ad, bd = (0.0 if np.isnan(r) else r for r in (ad, bd))  # one layer only: nothing to take out
            rest = (1 - ad**2) * (1 - bd**2)
            found[a, b] = found[b, a] = (
                np.clip((ab - ad * bd) / np.sqrt(rest), -1, 1) if rest > 1e-12 else np.nan
            )
    return found


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
    from scipy.stats import hypergeom

    decided = np.isfinite(first) & np.isfinite(second)
    a, b = first[decided] > 0, second[decided] > 0
    both, either = int((a & b).sum()), int((a | b).sum())
    jaccard = both / either if either else float("nan")
    if not a.any() or not b.any():
        return Overlap(jaccard, float("nan"), both, either)
    return Overlap(jaccard, float(hypergeom.sf(both - 1, len(a), int(a.sum()), int(b.sum()))), both, either)


class Matching(NamedTuple):
    """Heads of one model paired with heads of another by their scores.

    Args:
        pairs: [pair, 2] numbers of heads. correlation: mean over pairs of the correlation of their score profiles.
        p: share of permutations of each score over the second model's heads whose matching is as good or better.
    """

    pairs: np.ndarray
    correlation: float
    p: float


def matched_heads(
    first: Num[np.ndarray, "head score"],
    second: Num[np.ndarray, "other_head score"],
    draws: int = 100,
    seed: int = 0,
) -> Matching:
    """The pairing of heads with the smallest summed squared distance of z-scored profiles (Hungarian method).

    Scores are z-scored within each model; those that are constant or missing in either are left out. The null permutes
    each score over the second model's heads on its own, which keeps every distribution and breaks the profiles.

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
    pairs, value = _matched(a, b)
    rng = np.random.default_rng(seed)
    null = [_matched(a, np.stack([rng.permutation(c) for c in b.T], 1))[1] for _ in range(draws)]
    return Matching(pairs, value, (1 + sum(v >= value - 1e-12 for v in null)) / (1 + draws))


def depth_distance(first: Num[np.ndarray, " layer"], second: Num[np.ndarray, " other_layer"]) -> float:
    """Earth mover's distance of where two models have a score, 0 .. 1: the share of weight times how far it moves.

    Weights are means by layer, from 0 up, and stand at relative depth l / (L - 1). NaN where one has no weight.
    """
    from scipy.stats import wasserstein_distance

    places = [np.linspace(0, 1, len(w)) if len(w) > 1 else np.zeros(1) for w in (first, second)]
    weights = [np.nan_to_num(np.maximum(w.astype(np.float64), 0)) for w in (first, second)]
    if min(w.sum() for w in weights) <= 0:
        return float("nan")
    return float(wasserstein_distance(*places, *weights))


def correlation_interval(value: float, n: int) -> Interval:
    """95 % interval of a correlation of n pairs by Fisher's z; NaN below 4 pairs."""
    if n < 4 or not np.isfinite(value):
        return Interval(*(np.asarray(v) for v in (value, np.nan, np.nan)))
    z, half = np.arctanh(np.clip(value, -0.999999, 0.999999)), 1.959964 / np.sqrt(n - 3)
    return Interval(*(np.asarray(v) for v in (value, np.tanh(z - half), np.tanh(z + half)))).holding()


def _usable(x: np.ndarray) -> np.ndarray:
    return np.isfinite(x).all(0) & (x.std(0) > 0)


def _z(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def _matched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    from scipy.optimize import linear_sum_assignment

    distance = ((a[:, None] - b[None]) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(distance)
    x, y = a[rows], b[columns]
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.stack([rows, columns], 1), float(((x * y).sum(1) / np.maximum(size, 1e-300)).mean())


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values).astype(np.float64) if len(values) else np.zeros(0)


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


LAWS = (
    Law(rank_correlations, ()),
    Law(rank_correlations_given, ()),
    Law(overlap, ()),
    Law(matched_heads, (), {"draws": 3}),
    Law(depth_distance, ()),
    Law(correlation_interval, (), {"value": 0.5, "n": 10}),
)
