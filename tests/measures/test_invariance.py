"""InfoNCE, LiDAR and DiME against values derived by hand, and against slow loops that use none of their tricks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from depthscope.errors import BadInput, UnknownName
from depthscope.measures import invariance as inv
from depthscope.measures import lidar


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------ InfoNCE


def slow_infonce(a: np.ndarray, b: np.ndarray, tau: float, mode: str) -> list[float]:
    """One text at a time, as the formula is written."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    n, found = len(a), []
    for i in range(n):
        sides = []
        for own, partner, others in ((a[i], b[i], b), (b[i], a[i], a)):
            below = [math.exp(own @ x / tau) for x in others]
            if mode == "nt_xent":
                same = a if others is b else b
                below += [math.exp(own @ x / tau) for k, x in enumerate(same) if k != i]
            sides.append(-math.log(math.exp(own @ partner / tau) / math.fsum(below)))
        found.append(sides[0] if mode == "one_way" else sum(sides) / 2)
    return found


@pytest.mark.parametrize("mode", inv.LOSSES)
def test_infonce_equals_the_formula_written_out(mode: str) -> None:
    a, b = normal(9, 5), normal(9, 5, seed=1)
    expected = slow_infonce(a.numpy(), b.numpy(), 0.3, mode)
    np.testing.assert_allclose(inv.infonce(a, b, mode, 0.3).numpy(), expected, rtol=1e-12)


def test_equal_views_at_right_angles_to_all_others_cost_what_the_temperature_leaves() -> None:
    rows = torch.eye(472, dtype=torch.float64)
    loss = inv.infonce(rows, rows)
    # the partner's cosine is 1 and the 471 others' are 0, at temperature 0.1
    np.testing.assert_allclose(loss.mean(), math.log1p(471 * math.exp(-10)), rtol=1e-12)
    assert float(loss.mean()) == pytest.approx(0.0212, abs=1e-4)
    assert float(inv.infonce(rows, rows, "nt_xent").mean()) == pytest.approx(math.log1p(942 * math.exp(-10)))


def test_views_that_have_nothing_to_do_with_each_other_cost_chance() -> None:
    loss = inv.infonce(normal(472, 20_000), normal(472, 20_000, seed=1))
    assert float(loss.mean()) == pytest.approx(inv.chance_loss(472), abs=0.02)
    assert inv.chance_loss(472) == pytest.approx(6.157, abs=1e-3)
    assert inv.chance_loss(1000, "nt_xent") == pytest.approx(7.600, abs=1e-3)


def test_one_direction_is_not_the_other_but_the_mean_is_symmetric() -> None:
    a, b = normal(12, 3), normal(12, 3, seed=1)
    ways = inv.infonce(a, b, "one_way"), inv.infonce(b, a, "one_way")
    assert float((ways[0] - ways[1]).abs().max()) > 0.01
    torch.testing.assert_close(inv.infonce(a, b), (ways[0] + ways[1]) / 2)


def test_a_text_without_a_direction_is_neither_asked_for_nor_a_candidate() -> None:
    a, b = normal(6, 4), normal(6, 4, seed=1)
    gone = a.clone()
    gone[2] = 0
    rest = [0, 1, 3, 4, 5]
    for measure in (inv.infonce, inv.partner_top1, lambda *x: inv.cosines(*x).negative):
        found = measure(gone, b)
        assert bool(found[2].isnan())
        torch.testing.assert_close(found[rest], measure(a[rest], b[rest]))
    assert bool(inv.infonce(torch.zeros(3, 2), torch.ones(3, 2)).isnan().all())
    shuffles = inv.orders(6, 4)
    assert math.isfinite(float(inv.dime(gone, b, shuffles)))
    torch.testing.assert_close(inv.dime_2(gone, b), inv.dime_2(a[rest], b[rest]))


def test_the_partner_is_found_where_it_is_nearest_and_equal_vectors_give_chance() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]])
    swapped = a[[1, 0, 2]]
    assert inv.partner_top1(a, a).tolist() == [1, 1, 1]
    assert inv.partner_top1(a, swapped).tolist() == [0, 0, 1]
    same = torch.ones(5, 3)
    assert inv.partner_top1(same, same).tolist() == pytest.approx([0.2] * 5)
    # text 0 is a copy of text 1: each is nearest with a chance of one half
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert inv.partner_top1(twins, twins).tolist() == [0.5, 0.5, 1]


def test_mean_cosines_are_those_of_all_pairs() -> None:
    a, b = normal(7, 3), normal(7, 3, seed=2)
    cosine = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    found = inv.cosines(a, b)
    torch.testing.assert_close(found.positive, cosine.diagonal())
    off = cosine - torch.diag(cosine.diagonal())
    torch.testing.assert_close(found.negative, (off.sum(0) + off.sum(1)) / 12)


def test_one_mean_is_shared_by_all_views() -> None:
    views = normal(4, 3, 5) + 7
    rows = views.flatten(0, 1)
    rows = rows - rows.mean(0)
    expected = rows / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(inv.unit_views(views).flatten(0, 1), expected)
    assert inv.unit_views(torch.ones(3, 2, 4)).abs().max() == 0


# -------------------------------------------------------------------------------------------------------------- LiDAR


def slow_lidar(x: np.ndarray, rel: float, absolute: float) -> np.ndarray:
    """Scatters by outer products, the within-scatter's inverse root by eigenvectors, a full eigenproblem."""
    n, q, d = x.shape
    mu = x.mean(1)
    grand = mu.mean(0)
    between = sum(np.outer(m - grand, m - grand) for m in mu) / n
    within = sum(np.outer(x[i, j] - mu[i], x[i, j] - mu[i]) for i in range(n) for j in range(q)) / (n * q)
    within += (rel * np.trace(within) / d + absolute) * np.eye(d)
    root = np.linalg.inv(np.real(scipy.linalg.sqrtm(within)))
    return np.linalg.eigvalsh(root @ between @ root)[::-1][: min(n, d)]


@pytest.mark.parametrize(("n", "q", "d"), [(12, 4, 7), (5, 4, 9), (6, 3, 30), (2, 2, 2)])
@pytest.mark.parametrize(("rel", "absolute"), [(1e-4, 0.0), (0.0, 1e-3)])
def test_the_fast_forms_equal_the_slow_one(n: int, q: int, d: int, rel: float, absolute: float) -> None:
    views = normal(n, 1, d) + 0.5 * normal(n, q, d, seed=1) @ normal(d, d, seed=2)
    expected = slow_lidar(views.numpy(), rel, absolute)
    found = lidar.lidar_spectrum(views, rel, absolute).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8 * expected[0])


def test_primal_and_dual_are_the_same_spectrum() -> None:
    between, within = normal(6, 9), normal(18, 9, seed=1)
    spectra = [torch.linalg.eigvalsh(form(between, within, 0.1)) for form in (lidar._primal, lidar._dual)]
    torch.testing.assert_close(*spectra, rtol=1e-9, atol=1e-9)


def test_isotropic_means_and_noise_fill_nearly_all_directions() -> None:
    n, q, d = 200, 16, 64
    views = normal(n, 1, d) + normal(n, q, d, seed=1)
    found = lidar.lidar(views)
    assert float(found.rank) == pytest.approx(53, abs=3)
    assert float(found.normalised) == pytest.approx(math.log(float(found.rank)) / math.log(64))
    assert float(found.mean_eigenvalue) > 1


def test_shuffled_groups_keep_the_rank_while_the_eigenvalues_fall_to_the_noise() -> None:
    n, q, d = 200, 16, 64
    views = normal(n, 1, d) + normal(n, q, d, seed=1)
    order = inv.orders(n, q)
    shuffled = torch.stack([views[order[j], j] for j in range(q)], 1)
    true, mixed = lidar.lidar(views), lidar.lidar(shuffled)
    assert float(mixed.rank) == pytest.approx(float(true.rank), rel=0.05)
    # (n - 1) / (n (q - 1) - d - 1) = 199 / 2935, near 1 / (q - 1); the spec's 1 / q is its round figure
    assert lidar.noise_mean(n, q, d) == pytest.approx(199 / 2935)
    assert float(mixed.mean_eigenvalue) == pytest.approx(lidar.noise_mean(n, q, d), rel=0.03)
    assert float(true.mean_eigenvalue) > 10 * float(mixed.mean_eigenvalue)


def test_what_is_above_the_noise_counts_the_planted_directions() -> None:
    n, q, d, planted = 100, 6, 40, 3
    signal = torch.zeros(n, 1, d, dtype=torch.float64)
    signal[:, 0, :planted] = 5 * normal(n, planted)
    noise = normal(n, q, d, seed=1)
    # the largest eigenvalue of noise may lie a little beyond the edge
    assert planted <= float(lidar.lidar(signal + noise).above) <= planted + 1
    assert float(lidar.lidar(signal + noise).corrected) == pytest.approx(planted, abs=0.3)
    nothing = lidar.lidar(noise)
    assert float(nothing.above) <= 1
    assert float(nothing.corrected) <= 1
    assert float(nothing.rank) > 20
    # the edge of Wachter's law is where the largest eigenvalue of pure noise comes to lie
    assert float(lidar.lidar_spectrum(noise)[0]) == pytest.approx(lidar.noise_edge(n, q, d), rel=0.12)
    assert float(lidar.lidar(noise, noise=0.0).corrected) == pytest.approx(float(nothing.rank))


def test_the_floors_have_no_value_where_views_cannot_fill_the_width() -> None:
    assert math.isnan(lidar.noise_mean(4, 3, 8))
    assert math.isnan(lidar.noise_edge(4, 3, 8))
    found = lidar.lidar(normal(4, 3, 8))
    assert math.isnan(float(found.above))
    assert math.isnan(float(found.corrected))
    assert math.isfinite(float(found.rank))


def test_lidar_tells_what_it_cannot_do() -> None:
    with pytest.raises(BadInput, match="at least 2 of each, found 1"):
        lidar.lidar_spectrum(normal(5, 1, 3))
    with pytest.raises(BadInput, match="8 dimensions are more than the views can fill"):
        lidar.lidar_spectrum(normal(3, 2, 8), 0.0)
    with pytest.raises(BadInput, match="singular"):
        lidar.lidar_spectrum(torch.cat([normal(9, 3, 2), torch.zeros(9, 3, 1)], -1), 0.0)
    same = normal(5, 1, 3).expand(5, 4, 3)
    assert bool(lidar.lidar_spectrum(same).isnan().all())


# --------------------------------------------------------------------------------------------------------------- DiME


def slow_entropy(gram: np.ndarray) -> float:
    p = np.linalg.eigvalsh(gram / np.trace(gram))
    p = p[p > 1e-15]
    return float(-(p * np.log(p)).sum())


def grams(*views: Tensor) -> list[np.ndarray]:
    rows = [v.numpy() / np.linalg.norm(v.numpy(), axis=1, keepdims=True) for v in views]
    return [r @ r.T for r in rows]


def test_dime_equals_the_difference_of_entropies_written_out() -> None:
    a, b = normal(10, 4), normal(10, 4, seed=1)
    shuffles = inv.orders(10, 5, seed=3)
    left, right = grams(a, b)
    mixed = []
    for order in shuffles.tolist():
        turned = np.array([[right[order[i], order[j]] for j in range(10)] for i in range(10)])
        mixed.append(slow_entropy(left * turned))
    expected = float(np.mean(mixed)) - slow_entropy(left * right)
    assert float(inv.dime(a, b, shuffles)) == pytest.approx(expected, rel=1e-9)


def test_equal_views_share_more_than_independent_ones() -> None:
    a, b = normal(60, 8), normal(60, 8, seed=1)
    shuffles = inv.orders(60)
    assert float(inv.dime(a, a, shuffles)) > 0.1
    assert float(inv.dime_2(a, a)) > 0.1
    assert abs(float(inv.dime(a, b, shuffles))) < 0.02
    assert abs(float(inv.dime_2(a, b))) < 0.03


def test_order_two_is_what_drawing_many_orders_gives() -> None:
    a = normal(40, 6)
    b = a + 0.5 * normal(40, 6, seed=1)
    left, right = grams(a, b)
    rng = np.random.default_rng(0)
    mixed = []
    for _ in range(400):
        order = rng.permutation(40)
        mixed.append(-np.log(((left * right[order][:, order]) ** 2).sum() / 40**2))
    expected = np.mean(mixed) + np.log(((left * right) ** 2).sum() / 40**2)
    assert float(inv.dime_2(a, b)) == pytest.approx(expected, abs=1e-3)


def test_vectors_that_are_all_alike_or_all_at_right_angles_share_nothing() -> None:
    alike, apart = torch.ones(8, 3), torch.eye(8)
    shuffles = inv.orders(8)
    for rows in (alike, apart):
        assert float(inv.dime(rows, rows, shuffles)) == pytest.approx(0, abs=1e-6)
        assert float(inv.dime_2(rows, rows)) == pytest.approx(0, abs=1e-6)
    assert bool(inv.dime_2(torch.ones(1, 3), torch.ones(1, 3)).isnan())
    assert bool(inv.dime(torch.ones(1, 3), torch.ones(1, 3), inv.orders(1)).isnan())


def test_orders_are_permutations_and_the_same_for_the_same_seed() -> None:
    found = inv.orders(7, 3, seed=1)
    assert all(sorted(row) == list(range(7)) for row in found.tolist())
    assert found.tolist() == inv.orders(7, 3, seed=1).tolist() != inv.orders(7, 3, seed=2).tolist()


def test_unknown_modes_and_temperatures_are_told() -> None:
    with pytest.raises(UnknownName, match="nt_xent"):
        inv.infonce(normal(3, 2), normal(3, 2), "nt_xnet")
    with pytest.raises(UnknownName, match="one_way"):
        inv.chance_loss(3, "oneway")
    with pytest.raises(BadInput, match="above 0, found 0"):
        inv.infonce(normal(3, 2), normal(3, 2), temperature=0.0)
