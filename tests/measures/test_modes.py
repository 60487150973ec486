"""Dips against hand-derived values and a linear program; mixtures that are there, and skew that is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linprog

from depthscope.errors import BadInput
from depthscope.measures.dip import dip, dip_p
from depthscope.measures.modes import (
    ashman_d,
    bimodal,
    bimodality_coefficient,
    equal_posterior,
    mixture,
    valley,
)

N = 500


def slow_dip(values: np.ndarray) -> float:
    """The dip by its definition: for every mode the nearest function that is convex before and concave behind it."""
    x, counts = np.unique(values, return_counts=True)
    upper = np.cumsum(counts) / counts.sum()
    lower = upper - counts / counts.sum()
    return min(_nearest(x, lower, upper, mode) for mode in range(len(x)))


def _nearest(x: np.ndarray, lower: np.ndarray, upper: np.ndarray, mode: int) -> float:
    """Smallest h of a linear program in (h, left limits, right limits): they differ at the mode only."""
    m = len(x)
    rows: list[np.ndarray] = []
    bounds: list[float] = []

    def at(**terms: float) -> np.ndarray:
        row = np.zeros(1 + 2 * m)
        for name, factor in terms.items():
            row[0 if name == "h" else 1 + int(name[1:]) + m * (name[0] == "r")] += factor
        return row

    def at_most(bound: float, **terms: float) -> None:
        rows.append(at(**terms))
        bounds.append(bound)

    for i in range(m):
        for side, target in (("l", lower[i]), ("r", upper[i])):
            at_most(target, **{f"{side}{i}": 1, "h": -1})
            at_most(-target, **{f"{side}{i}": -1, "h": -1})
        at_most(0, **{f"l{i}": 1, f"r{i}": -1})
        if i != mode:
            at_most(0, **{f"l{i}": -1, f"r{i}": 1})
    slopes = [at(**{f"l{i + 1}": 1, f"r{i}": -1}) / (x[i + 1] - x[i]) for i in range(m - 1)]
    for row in slopes:
        rows.append(-row)
        bounds.append(0)
    for i in range(m - 2):
        if i + 1 != mode:
            rows.append((slopes[i] - slopes[i + 1]) * (1 if i + 1 < mode else -1))
            bounds.append(0)
    cost = np.zeros(1 + 2 * m)
    cost[0] = 1
    return float(linprog(cost, np.array(rows), bounds, bounds=[(0, None)] * (1 + 2 * m)).fun)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0], 1 / 4),
        (np.arange(10.0), 1 / 20),  # a straight line misses every step of 1 / n by half of it
        ([0.0] * 5 + [1.0] * 5, 1 / 4),  # a jump at one mode, half of the other jump is missed
        ([0.0] * 8 + [1.0] * 2, 1 / 10),
        ([3.0] * 7, 0.0),
        ([], math.nan),
        ([1.0, math.nan], math.nan),
    ],
)
def test_dips_of_samples_that_can_be_drawn_by_hand(values: list[float], expected: float):
    np.testing.assert_allclose(dip(np.asarray(values)), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_dip_is_what_a_linear_program_over_all_modes_finds(seed: int):
    draw = np.random.default_rng(seed)
    kinds = [
        draw.normal(size=11), draw.random(9), draw.lognormal(size=10),
        np.concatenate([draw.normal(size=6), draw.normal(9, 1, 6)]),
        draw.integers(0, 5, 12).astype(float),
        np.concatenate([draw.normal(k * 20, 1, 4) for k in range(3)]),
    ]  # fmt: skip
    for values in kinds:
        np.testing.assert_allclose(dip(values), slow_dip(values), atol=1e-9)


def test_the_p_value_of_a_dip_counts_uniform_samples_that_dip_as_far():
    draw = np.random.default_rng([5, 7])
    null = np.array([dip(sample) for sample in draw.random((40, 7))])
    value = float(np.sort(null)[30])
    assert dip_p(value, 7, draws=40, seed=5) == (1 + 10) / 41
    assert dip_p(1.0, 7, draws=40, seed=5) == 1 / 41
    assert np.isnan(dip_p(math.nan, 7, draws=40))
    with pytest.raises(BadInput, match="n=0"):
        dip_p(0.1, 0)


def judged(values: np.ndarray) -> float:
    one, two = mixture(values, 1), mixture(values, 2)
    return bimodal(
        dip_p(dip(values), len(values), draws=200), one.bic - two.bic, ashman_d(two.means, two.variances),
        float(two.weights.min()),
    )  # fmt: skip


def mixed(seed: int, apart: float = 4.0, weight: float = 0.3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.where(draw.random(N) < weight, draw.normal(apart, 1, N), draw.normal(0, 1, N))


@pytest.mark.parametrize("seed", range(4))
def test_two_normals_five_sigma_apart_are_found(seed: int):
    values = mixed(seed, 5.0)
    assert judged(values) == 1
    assert bimodality_coefficient(values) > 5 / 9
    assert valley(values) < 0.8
    two = mixture(values, 2)
    np.testing.assert_allclose(two.means, [0, 5], atol=0.3)
    np.testing.assert_allclose(two.weights, [0.7, 0.3], atol=0.07)
    np.testing.assert_allclose(two.variances, 1, atol=0.4)


def test_at_four_sigma_the_mixture_is_always_seen_and_the_dip_is_sure_in_a_third():
    found = [mixed(seed) for seed in range(24)]
    sure = [dip_p(dip(values), N, draws=200) < 0.01 for values in found]
    assert 0.15 <= np.mean(sure) <= 0.55
    assert judged(found[int(np.argmax(sure))]) == 1
    for values in found[:6]:
        two = mixture(values, 2)
        assert mixture(values, 1).bic - two.bic > 50
        assert ashman_d(two.means, two.variances) > 3
        assert two.weights.min() > 0.2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["normal", "lognormal", "beta"])
def test_one_mode_is_never_called_two_though_two_normals_fit_skew_better(kind: str, seed: int):
    draw = np.random.default_rng(seed)
    values = {
        "normal": lambda: draw.normal(size=N),
        "lognormal": lambda: draw.lognormal(size=N),
        "beta": lambda: draw.beta(2, 6, N),
    }[kind]()
    assert judged(values) == 0
    if kind == "lognormal":
        assert mixture(values, 1).bic - mixture(values, 2).bic > 10
        assert bimodality_coefficient(values) > 5 / 9


def test_one_normal_has_the_likelihood_of_its_mean_and_variance():
    values = np.random.default_rng(0).normal(3, 2, 50)
    found = mixture(values, 1)
    variance = values.var()
    likelihood = -25 * (np.log(2 * np.pi * variance) + 1)
    np.testing.assert_allclose([found.means[0], found.variances[0]], [values.mean(), variance])
    np.testing.assert_allclose(found.log_likelihood, likelihood)
    np.testing.assert_allclose(found.bic, -2 * likelihood + 2 * np.log(50))


@pytest.mark.parametrize("k", [2, 3])
def test_a_mixture_is_at_least_as_likely_as_that_of_another_implementation(k: int):
    from sklearn.mixture import GaussianMixture

    values = np.concatenate([mixed(3)[:150], np.random.default_rng(1).normal(9, 0.5, 50)])
    other = GaussianMixture(k, n_init=5, random_state=0, tol=1e-7, max_iter=500).fit(values[:, None])
    assert mixture(values, k).log_likelihood >= 200 * other.score(values[:, None]) - 1e-3


def test_equal_values_make_no_part_infinitely_narrow():
    values = np.concatenate([np.zeros(40), np.random.default_rng(0).normal(5, 1, 60)])
    found = mixture(values, 2)
    assert found.variances[0] == pytest.approx(1e-3 * values.var())
    assert np.isnan(mixture(np.ones(9), 2).bic)
    assert np.isnan(mixture(np.array([1.0, 2.0]), 2).bic)
    with pytest.raises(BadInput, match="k=0"):
        mixture(values, 0)


def test_the_threshold_is_where_both_parts_are_equally_likely():
    ones = np.ones(2)
    assert equal_posterior(ones / 2, np.array([0.0, 4.0]), ones) == pytest.approx(2)
    # w N(t; 0) = (1 - w) N(t; 4) where t = 2 + ln(w / (1 - w)) / 4
    assert equal_posterior(np.array([0.8, 0.2]), np.array([0.0, 4.0]), ones) == pytest.approx(
        2 + math.log(4) / 4
    )
    weights, means, variances = np.array([0.4, 0.6]), np.array([0.0, 3.0]), np.array([0.25, 1.0])
    t = equal_posterior(weights, means, variances)
    densities = weights / np.sqrt(variances) * np.exp(-((t - means) ** 2) / (2 * variances))
    assert densities[0] == pytest.approx(densities[1])
    assert np.isnan(equal_posterior(np.array([0.999, 0.001]), np.array([0.0, 0.5]), ones))
    assert np.isnan(equal_posterior(np.ones(1), np.ones(1), np.ones(1)))


def test_ashmans_distance_and_the_coefficient_have_their_known_values():
    assert ashman_d(np.array([0.0, 4.0]), np.ones(2)) == pytest.approx(4)
    assert np.isnan(ashman_d(np.ones(1), np.ones(1)))
    # evenly spaced: no skew, excess -1.2; many values at two points: no skew, excess -2
    assert bimodality_coefficient(np.linspace(0, 1, 20_001)) == pytest.approx(5 / 9, abs=1e-3)
    assert bimodality_coefficient(np.repeat([0.0, 1.0], 5000)) == pytest.approx(1, abs=1e-3)
    assert np.isnan(bimodality_coefficient(np.ones(9)))


def test_a_valley_is_as_deep_as_the_density_says():
    assert valley(np.random.default_rng(0).normal(size=2000)) > 0.8
    far = np.concatenate([np.random.default_rng(k).normal(40 * k, 1, 200) for k in range(2)])
    assert valley(far) < 0.01
    assert np.isnan(valley(np.ones(5)))


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ((0.001, 20.0, 3.0, 0.2), 1),
        ((0.02, 20.0, 3.0, 0.2), 0),
        ((0.001, 9.0, 3.0, 0.2), 0),
        ((0.001, 20.0, 1.9, 0.2), 0),
        ((0.001, 20.0, 3.0, 0.05), 0),
        ((0.001, 20.0, math.nan, 0.2), math.nan),
    ],
)
def test_all_three_signs_must_say_two_modes(signs: tuple[float, ...], expected: float):
    np.testing.assert_equal(bimodal(*signs), expected)
