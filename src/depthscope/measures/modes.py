"""Modes of a sample of numbers: normal mixtures, how far apart their parts are, valleys. numpy only, never torch.

One sign alone misleads: a mixture of two normals fits a skewed distribution with one mode better than one normal does,
and a kernel density has bumps by chance. So `bimodal` asks three of them at once. Sources: Dempster, Laird and Rubin
1977 (EM); Schwarz 1978 (BIC); Ashman, Bird and Zepf 1994 (distance of two parts); Pfister et al. 2013 (coefficient);
Silverman 1986 (bandwidth).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

FLOOR = 1e-3
"""No part of a mixture has less than this share of the whole variance: equal values would make it zero."""
TRIED = 25
"""Steps that every start gets before the best one goes on."""
STEPS = 500
GRID = 512
"""Points at which a density is looked at."""
ALPHA, GAIN, DISTANCE, MINOR = 0.01, 10.0, 2.0, 0.1
"""What `bimodal` asks: p of the dip, gain in BIC, distance of the parts, weight of the smaller one."""


class Mixture(NamedTuple):
    """Normal parts, means ascending: weights, means and variances [k]; log-likelihood and BIC (smaller is better)."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    log_likelihood: float
    bic: float


def mixture(values: Num[np.ndarray, " n"], k: int, restarts: int = 20, seed: int = 0) -> Mixture:
    """A mixture of k normals by expectation and maximisation, the best of several starts.

    The first start puts means at evenly spaced quantiles, the others at values drawn at random; all take TRIED steps,
    then the one of the largest likelihood goes on until it gains less than 1e-8 a value. Variances stay above FLOOR
    times that of all values. BIC = -2 log L + (3k - 1) ln n. NaN throughout where all values are equal or there are
    fewer than k + 1.

    Raises:
        BadInput: k or restarts is below 1.
    """
    if k < 1 or restarts < 1:
        raise BadInput(f"a mixture needs a part and a start, found k={k} and restarts={restarts}")
    x = np.asarray(values, np.float64)
    n, size = len(x), x.std() if len(x) else 0.0
    if n <= k or not size > 0:
        nothing = np.full(k, np.nan)
        return Mixture(nothing, nothing, nothing, float("nan"), float("nan"))
    z = (x - x.mean()) / size
    parts = _starts(z, k, restarts, np.random.default_rng(seed))
    for _ in range(TRIED):
        parts, likelihood = _step(z, *parts)
    best = int(likelihood.argmax())  # pyright: ignore[reportPossiblyUnboundVariable]
    parts, likelihood = tuple(part[best : best + 1] for part in parts), -np.inf
    for _ in range(STEPS):
        before, (parts, now) = likelihood, _step(z, *parts)
        likelihood = float(now[0])
        if likelihood - before < 1e-8 * n:
            break
    weights, means, variances = (part[0, np.argsort(parts[1][0])] for part in parts)
    whole = likelihood - n * np.log(size)
    return Mixture(
        weights, means * size + x.mean(), variances * size**2, whole, -2 * whole + (3 * k - 1) * np.log(n)
    )


Parts = tuple[np.ndarray, ...]


def _starts(z: np.ndarray, k: int, restarts: int, generator: np.random.Generator) -> Parts:
    """Weights, means and variances, [start, part]."""
    means = generator.choice(z, (restarts, k))
    means[0] = np.quantile(z, (np.arange(k) + 0.5) / k)
    return np.full((restarts, k), 1 / k), means, np.full((restarts, k), 1 / k**2)


def _step(
    z: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> tuple[Parts, np.ndarray]:
    """One step of every start, and the log-likelihood before it, [start]."""
    away = z[None, :, None] - means[:, None]
    scale = np.log(np.maximum(weights, 1e-300)) - 0.5 * np.log(2 * np.pi * variances)
    joint = scale[:, None] - away**2 / (2 * variances[:, None])
    top = joint.max(-1, keepdims=True)
    share = np.exp(joint - top)
    total = share.sum(-1, keepdims=True)
    share /= total
    mass = np.maximum(share.sum(1), 1e-12)
    moved = (share * z[None, :, None]).sum(1) / mass
    spread = (share * (z[None, :, None] - moved[:, None]) ** 2).sum(1) / mass
    return (mass / len(z), moved, np.maximum(spread, FLOOR)), (top + np.log(total)).sum((1, 2))


def ashman_d(means: Float[np.ndarray, " part"], variances: Float[np.ndarray, " part"]) -> float:
    """Distance of the first two parts in their common spread, sqrt(2) |m1 - m2| / sqrt(s1^2 + s2^2); above 2: apart.

    NaN where there are fewer than two parts. Source: Ashman, Bird and Zepf 1994, eq. 3.
    """
    if len(means) < 2:
        return float("nan")
    return float(np.sqrt(2) * abs(means[1] - means[0]) / np.sqrt(variances[0] + variances[1]))


def equal_posterior(
    weights: Float[np.ndarray, " part"],
    means: Float[np.ndarray, " part"],
    variances: Float[np.ndarray, " part"],
) -> float:
    """The number between the means of the first two parts at which both are equally likely.

    The root of ln w1 N(t; m1, s1) = ln w2 N(t; m2, s2), a quadratic equation. NaN where there is none between the
    means: one part is the likelier one throughout.
    """
    if len(means) < 2 or not np.isfinite([*weights[:2], *means[:2], *variances[:2]]).all():
        return float("nan")
    (m, o), (v, u) = means[:2], variances[:2]
    constant = np.log(weights[0] / weights[1]) - 0.5 * np.log(v / u) - m**2 / (2 * v) + o**2 / (2 * u)
    roots = np.roots([1 / (2 * u) - 1 / (2 * v), m / v - o / u, constant])
    real = roots[np.abs(roots.imag) < 1e-12].real
    between = real[(real >= min(m, o)) & (real <= max(m, o))]
    return float(between[0]) if len(between) else float("nan")


def bimodality_coefficient(values: Num[np.ndarray, " n"]) -> float:
    """(g^2 + 1) / (k + 3 (n - 1)^2 / ((n - 2)(n - 3))) of sample skewness g and excess kurtosis k: a cheap screen.

    5/9 for a uniform distribution, 1/3 for a normal one, at most 1; skew alone raises it too. NaN below four values or
    where all are equal.
    """
    x = np.asarray(values, np.float64)
    n = len(x)
    z = x - x.mean() if n else x
    second = (z**2).mean() if n else 0.0
    if n < 4 or not second > 0:
        return float("nan")
    skew = (z**3).mean() / second**1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    excess = ((n + 1) * ((z**4).mean() / second**2 - 3) + 6) * (n - 1) / ((n - 2) * (n - 3))
    return float((skew**2 + 1) / (excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))))


def valley(values: Num[np.ndarray, " n"]) -> float:
    """Lowest density between two peaks over that of the lower peak, the smallest such ratio; 1 with one peak.

    The density is a sum of normal kernels with Silverman's bandwidth, 0.9 min(s, IQR / 1.34) n^(-1/5). Peaks below a
    tenth of the highest do not count. Range 0 .. 1, below 0.8 a clear valley. NaN where all values are equal.
    """
    x = np.asarray(values, np.float64)
    spread = x.std(ddof=1) if len(x) > 1 else 0.0
    if not spread > 0:
        return float("nan")
    middle = np.subtract(*np.quantile(x, [0.75, 0.25])) / 1.34
    width = 0.9 * (min(spread, middle) if middle > 0 else spread) * len(x) ** -0.2
    grid = np.linspace(x.min() - 3 * width, x.max() + 3 * width, GRID)
    density = np.exp(-0.5 * ((grid[:, None] - x) / width) ** 2).sum(1)
    inner = density[1:-1]
    peaks = 1 + np.flatnonzero(
        (inner > density[:-2]) & (inner >= density[2:]) & (inner >= 0.1 * density.max())
    )
    ratios = [
        density[a : b + 1].min() / min(density[a], density[b])
        for k, a in enumerate(peaks)
        for b in peaks[k + 1 :]
    ]
    return float(min(ratios, default=1.0))


def bimodal(dip_p: float, bic_gain: float, distance: float, minor_weight: float) -> float:
    """1 where all three signs say two modes, 0 where one does not, NaN where one is not known.

    p of the dip (adjusted for the number of tests) below 0.01; BIC of one normal above that of two by more than 10; and
    Ashman's distance above 2 with a smaller part of at least a tenth of the weight.
    """
    if not np.isfinite([dip_p, bic_gain, distance, minor_weight]).all():
        return float("nan")
    return float(dip_p < ALPHA and bic_gain > GAIN and distance > DISTANCE and minor_weight >= MINOR)


_PARTS = {
    "weights": np.array([0.3, 0.7]), "means": np.array([0.0, 1.0]), "variances": np.array([0.1, 0.2]),
}  # fmt: skip
LAWS = (
    Law(mixture, (), {"k": 2, "restarts": 3}),
    Law(ashman_d, ("non_negative",), {n: _PARTS[n] for n in ("means", "variances")}),
    Law(equal_posterior, ("bounded_by_one",), _PARTS),
    Law(bimodality_coefficient, ("shift_free", "scale_free", "permutation_free")),
    Law(valley, ("non_negative", "bounded_by_one", "scale_free", "permutation_free")),
    Law(
        bimodal,
        ("non_negative", "bounded_by_one"),
        {"dip_p": 0.001, "bic_gain": 20.0, "distance": 3.0, "minor_weight": 0.3},
    ),
)
