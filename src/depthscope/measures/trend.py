"""Trends over ordered levels: whether a number per item rises, stays, or cannot be told. numpy only, never torch.

An *item* has a level (how hard it is), a number (such as its depth score) and covariates. Three questions are kept
apart: is there a trend (rank correlation, ordered alternatives), how steep is it (least squares with errors over
independent units), and is it small enough to be called none (equivalence). A large p of the first is no answer to the
third.
Sources: Csordas, Manning and Potts 2025 (arXiv 2505.13898, depth score); Good 2005 (permutation within strata);
Jonckheere 1954, Lehmann 1975 (ties); Liang and Zeger 1986 (cluster-robust errors); Schuirmann 1987 (equivalence).
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

WORDS = {1.0: "uses more depth", 0.0: "no meaningful change", -1.0: "uses less depth"}
"""Verdicts on a slope of depth over difficulty; anything else is "inconclusive"."""
POWER = 0.8
"""The chance with which a slope of the smallest detectable size would be found."""
_BLOCK = 4_000_000
"""Numbers held at a time where draws are taken in blocks; block sizes do not change results."""


class Tested(NamedTuple):
    """A statistic and its two-sided p-value."""

    value: float
    p: float


class Fit(NamedTuple):
    """Least-squares coefficients [column], their standard errors [column], and the degrees of freedom."""

    value: np.ndarray
    error: np.ndarray
    freedom: int


def depth_score(effects: Num[np.ndarray, "*items layer"]) -> Float[np.ndarray, "*items"]:
    """Centre of mass of effects over layers, sum_l l e_l / sum_l e_l, with l from 0; unit: layers, range 0 .. L - 1.

    A single layer's effect gives that layer's index. NaN where no layer has an effect, or one is NaN. Source: Csordas
    et al. 2025, whose text counts layers from 1: its scores are larger by 1.
    """
    total = np.asarray(effects, np.float64).sum(-1)
    moment = np.asarray(effects, np.float64) @ np.arange(effects.shape[-1], dtype=np.float64)
    return np.divide(moment, total, out=np.full(total.shape, np.nan), where=total != 0)


def strata(lengths: Num[np.ndarray, " n"], parts: int = 3) -> Int[np.ndarray, " n"]:
    """Which of `parts` groups of rising size an item belongs to, 0 .. parts - 1; equal numbers share a group.

    Groups are cut at quantiles, so they are about equally large where there are few ties; some may be empty.

    Raises:
        BadInput: parts is below 1.
    """
    if parts < 1:
        raise BadInput(f"strata cuts items into parts, got parts={parts}: pass 1 or more")
    cuts = np.quantile(lengths, np.arange(1, parts) / parts) if len(lengths) else np.zeros(0)
    return np.searchsorted(cuts, lengths, side="left").astype(np.int64)


def stratified_spearman(
    level: Num[np.ndarray, " n"],
    score: Num[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    draws: int = 10_000,
    seed: int = 0,
) -> Tested:
    """Spearman's rank correlation of all items, with a p-value from permutations of the levels within groups.

    Ranks of ties are averaged. Levels are exchanged only between items of one group (such as prompts of about one
    length), so a trend that comes with the group alone is no evidence. With r the ranks, the statistic is
    sum_groups sum_i (r(level_i) - group mean) r(score_i), which has mean 0 under permutation;
    p = (1 + #{|drawn| >= |observed|}) / (1 + draws), never 0.

    Returns:
        NaN where levels or scores are all equal; p = 1 where no group has two levels.
    """
    x, y = _ranks(level), _ranks(score)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Tested(math.nan, math.nan)
    rho = float(np.corrcoef(x, y)[0, 1])
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    for at in members:
        x[at] -= x[at].mean()
        y[at] -= y[at].mean()
    limit = abs(x @ y) - 1e-9 * np.abs(x) @ np.abs(y)
    generator, extreme = np.random.default_rng(seed), 0
    step = max(1, _BLOCK // len(x))
    for start in range(0, draws, step):
        drawn = np.zeros(min(step, draws - start))
        for at in members:
            drawn += generator.permuted(np.tile(x[at], (len(drawn), 1)), axis=1) @ y[at]
        extreme += int((np.abs(drawn) >= limit).sum())
    return Tested(rho, (1 + extreme) / (1 + draws))


def jonckheere(level: Num[np.ndarray, " n"], score: Num[np.ndarray, " n"]) -> Tested:
    """Jonckheere and Terpstra's test of ordered groups: z = (J - mean) / sd, and its two-sided p (normal).

    J counts pairs of items of different levels in which the harder one has the larger score, ties half. Mean and
    variance are those of J when scores are shuffled, corrected for ties. z > 0: scores rise with the level. NaN with
    fewer than 3 items, one level, or equal scores.
    """
    names, sizes = np.unique(level, return_counts=True)
    n, ties = len(level), np.unique(score, return_counts=True)[1]
    if n < 3 or len(names) < 2 or len(ties) < 2:
        return Tested(math.nan, math.nan)
    ordered = [np.sort(score[level == name]) for name in names]
    j = 0.0
    for k, easier in enumerate(ordered):
        for harder in ordered[k + 1 :]:
            below, not_above = (np.searchsorted(easier, harder, side=side) for side in ("left", "right"))
            j += (below.sum() + not_above.sum()) / 2
    mean = (n**2 - (sizes**2).sum()) / 4
    z = (j - mean) / math.sqrt(_variance(n, sizes, ties))
    return Tested(float(z), math.erfc(abs(z) / math.sqrt(2)))


def least_squares(
    design: Num[np.ndarray, "n column"], values: Num[np.ndarray, " n"], units: Shaped[np.ndarray, " n"]
) -> Fit:
    """Least-squares coefficients with standard errors that are robust to dependence within units.

    beta = (X'X)^-1 X'y; its covariance is (X'X)^-1 (sum_u X_u' e_u e_u' X_u) (X'X)^-1 with e the residuals, times
    U / (U - 1) (n - 1) / (n - columns) for U units; freedom = U - 1. With X = 1 and one item a unit the error is that
    of the mean, s / sqrt(n). NaN where columns depend on each other, with fewer than 2 units, or n <= columns.
    """
    names, member = np.unique(units, return_inverse=True)
    x, y = np.asarray(design, np.float64), np.asarray(values, np.float64)
    n, width = x.shape
    if n <= width or len(names) < 2 or np.linalg.matrix_rank(x) < width:
        return Fit(np.full(width, np.nan), np.full(width, np.nan), max(len(names) - 1, 0))
    inverse = np.linalg.inv(x.T @ x)
    value = inverse @ x.T @ y
    pull = np.zeros((len(names), width))
    np.add.at(pull, member, x * (y - x @ value)[:, None])
    factor = len(names) / (len(names) - 1) * (n - 1) / (n - width)
    covariance = factor * inverse @ pull.T @ pull @ inverse
    return Fit(value, np.sqrt(np.maximum(np.diag(covariance), 0.0)), len(names) - 1)


def equivalence_p(value: float, error: float, freedom: int, margin: float) -> float:
    """The p-value of two one-sided t tests that |true value| < margin; below 0.05 says "no meaningful difference".

    max(P(t > (value + margin) / error), P(t < (value - margin) / error)) with `freedom` degrees of freedom. It is below
    alpha where the 1 - 2 alpha interval of the value lies within the margin. NaN for a NaN input.

    Raises:
        BadInput: the margin is not above 0.
    """
    if not margin > 0:
        raise BadInput(f"an equivalence test needs a margin above 0, found {margin}")
    if math.isnan(value + error) or freedom < 1:
        return math.nan
    from scipy.special import stdtr

    if error == 0:
        return float(abs(value) >= margin)
    return float(max(stdtr(freedom, -(value + margin) / error), stdtr(freedom, (value - margin) / error)))


def detectable(error: float, freedom: int, power: float = POWER, alpha: float = 0.05) -> float:
    """The smallest true slope that a two-sided test at alpha would find with probability `power`, of its unit.

    error (t[1 - alpha/2] + t[power]), quantiles of t with `freedom` degrees of freedom: the usual approximation. NaN
    where the error is NaN.
    """
    if math.isnan(error) or freedom < 1:
        return math.nan
    from scipy.special import stdtrit

    return float(error * (stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, power)))


def verdict(low: float, high: float, p: float, alpha: float = 0.05) -> float:
    """What a slope's interval and its equivalence test allow to say, a key of `WORDS`; NaN decides nothing.

    0 where equivalence holds (p < alpha), also for a slope that is surely above 0: it is surely below the margin too.
    Else 1 for an interval [low, high] above 0, -1 for one below, and NaN for one that holds 0 or is not known.
    """
    if p < alpha:
        return 0.0
    return 1.0 if low > 0 else -1.0 if high < 0 else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, those of ties averaged."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _variance(n: int, sizes: np.ndarray, ties: np.ndarray) -> float:
    """Variance of J when scores are shuffled, for groups of these sizes and ties of these multiplicities."""
    a, b = np.asarray(sizes, np.float64), np.asarray(ties, np.float64)

    def whole(m: np.ndarray | float) -> float:
        return float(np.sum(m * (m - 1) * (2 * m + 5)))

    first = (whole(float(n)) - whole(a) - whole(b)) / 72
    triples = np.sum(a * (a - 1) * (a - 2)) * np.sum(b * (b - 1) * (b - 2)) / (36.0 * n * (n - 1) * (n - 2))
    pairs = np.sum(a * (a - 1)) * np.sum(b * (b - 1)) / (8.0 * n * (n - 1))
    return float(first + triples + pairs)


LAWS = (
    Law(depth_score, ("scale_free",)),
    Law(strata, ("non_negative", "scale_free", "shift_free")),
    Law(stratified_spearman, ("bounded_by_one", "scale_free", "shift_free"), {"draws": 50}),
    Law(jonckheere, ("scale_free", "shift_free", "permutation_free")),
    Law(least_squares, ()),
    Law(
        equivalence_p,
        ("non_negative", "bounded_by_one"),
        {"value": 0.1, "error": 0.2, "freedom": 9, "margin": 0.3},
    ),
    Law(detectable, ("non_negative",), {"error": 0.2, "freedom": 9}),
    Law(verdict, ("bounded_by_one",), {"low": 0.1, "high": 0.2, "p": 0.5}),
)
