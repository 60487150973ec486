"""CKA and its relatives: what rotations leave, what independence gives, and loops over pairs in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures import similarity as sim


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=9)).Q


def of(*states: Tensor) -> Tensor:
    return sim.grams(torch.stack(states))


X, Y = normal(40, 6), normal(40, 6, seed=1)
MIXED = X + 0.7 * Y


def slow_cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def slow_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, term by term."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    n, ones = len(k), np.ones(len(k))
    middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float(np.trace(k @ l) + middle - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3))


def test_all_pairs_at_once_equal_each_pair_by_the_formula() -> None:
    wide = normal(40, 11, seed=2)
    found = sim.cka(of(X, MIXED), sim.grams(torch.stack([wide, wide**2])))
    expected = [[slow_cka(a.numpy(), b.numpy()) for b in (wide, wide**2)] for a in (X, MIXED)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_the_debiased_form_equals_unbiased_hsic_written_out() -> None:
    states = [X.numpy(), MIXED.numpy() + 3]
    found = sim.debiased_cka(of(X, MIXED + 3), of(X, MIXED + 3)).numpy()
    for i, a in enumerate(states):
        for j, b in enumerate(states):
            expected = slow_hsic(a, b) / math.sqrt(slow_hsic(a, a) * slow_hsic(b, b))
            np.testing.assert_allclose(found[i, j], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "other", [X @ rotation(6), 5 * X, X + 100, -X], ids=["turned", "scaled", "moved", "flipped"]
)
def test_turning_scaling_and_moving_change_nothing(other: Tensor) -> None:
    one, two = of(X), of(other)
    for measure in (sim.cka, sim.debiased_cka, sim.svcca):
        assert float(measure(one, two)) == pytest.approx(1, abs=1e-9)
    assert float(sim.procrustes_distance(one, two)) == pytest.approx(0, abs=1e-6)
    assert float(sim.knn_overlap(one, two).mean()) == 1


def test_unrelated_wide_vectors_look_alike_to_all_but_the_debiased_form_and_neighbours() -> None:
    wide = [normal(40, 400, seed=s) for s in (3, 4)]
    one, two = of(wide[0]), of(wide[1])
    assert float(sim.cka(one, two)) > 0.8
    assert abs(float(sim.debiased_cka(one, two))) < 0.1
    assert float(sim.knn_overlap(one, two).mean()) == pytest.approx(sim.knn_chance(40), abs=0.06)
    # Procrustes is as biased: unrelated wide vectors are turned into each other
    assert float(sim.procrustes_distance(one, two)) < 0.3


def test_procrustes_distance_is_the_least_distance_over_rotations() -> None:
    a, b = (m - m.mean(0) for m in (X, MIXED))
    a, b = a / a.norm(), b / b.norm()
    from scipy.linalg import orthogonal_procrustes

    turn, _ = orthogonal_procrustes(a.numpy(), b.numpy())
    expected = np.linalg.norm(a.numpy() @ turn - b.numpy())
    assert float(sim.procrustes_distance(of(X), of(MIXED))) == pytest.approx(expected, rel=1e-9)
    # two lines at right angles in the space of texts share nothing
    u, v = torch.tensor([[1.0], [-1], [0], [0]]), torch.tensor([[0.0], [0], [1], [-1]])
    assert float(sim.procrustes_distance(of(u), of(v))) == pytest.approx(math.sqrt(2))


def test_neighbours_shared_are_counted_as_by_hand() -> None:
    line = torch.arange(6.0)[:, None]
    moved = torch.tensor([0.0, 1, 2, 3, 4, -1])[:, None]
    found = sim.knn_overlap(of(line), of(moved), k=1)[:, 0, 0]
    # the nearest of 0 is 1 on the line; moved, 1 and 5 are as near, and the first counts
    assert found.tolist() == [1, 1, 1, 1, 1, 0]
    both = sim.knn_overlap(of(line), of(moved), k=2)[:, 0, 0]
    # of 4 on the line 3 and 5, moved 3 and 2: one of three
    assert float(both[4]) == pytest.approx(1 / 3)


def test_chance_of_sharing_neighbours_is_that_of_drawing_them() -> None:
    # k = 1 of 4: both drawn alike in one of four cases
    assert sim.knn_chance(5, 1) == pytest.approx(1 / 4)
    rng = np.random.default_rng(0)
    drawn = [[set(rng.choice(19, 4, replace=False)) for _ in "ab"] for _ in range(4000)]
    assert sim.knn_chance(20, 4) == pytest.approx(
        np.mean([len(a & b) / len(a | b) for a, b in drawn]), abs=0.01
    )
    assert sim.knn_chance(5, 4) == 1


def test_svcca_is_the_mean_canonical_correlation_of_what_holds_the_variance() -> None:
    from scipy.linalg import subspace_angles

    scales = torch.tensor([10.0, 5, 3, 0.01, 0.01, 0.01])
    a, b = X * scales, MIXED * scales
    leading = [np.linalg.svd((m - m.mean(0)).numpy(), full_matrices=False)[0][:, :3] for m in (a, b)]
    expected = np.cos(subspace_angles(*leading)).mean()
    assert sim.svcca_kept(of(a, b)).tolist() == [3, 3]
    assert float(sim.svcca(of(a), of(b))) == pytest.approx(expected, rel=1e-6)
    assert sim.svcca_kept(of(a), most=2).tolist() == [2]
    assert sim.svcca_kept(of(X), 1.0).tolist() == [6]


def test_a_state_whose_vectors_are_all_equal_has_no_similarity() -> None:
    flat = torch.ones(40, 6, dtype=torch.float64)
    for measure in (sim.cka, sim.debiased_cka, sim.svcca, sim.procrustes_distance):
        found = measure(of(X, flat), of(X))
        assert math.isfinite(float(found[0, 0]))
        assert math.isnan(float(found[1, 0]))
    assert bool(sim.debiased_cka(sim.grams(normal(1, 3, 2)), sim.grams(normal(1, 3, 2))).isnan())


def test_wrong_numbers_are_told() -> None:
    with pytest.raises(BadInput, match="at least 41 texts"):
        sim.knn_overlap(of(X), of(Y), k=40)
    with pytest.raises(BadInput, match="above 0 and at most 1"):
        sim.svcca(of(X), of(Y), share=0.0)
