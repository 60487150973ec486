"""Ranks of spectra by hand, and the intrinsic dimension of clouds whose dimension is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput, UnknownName
from depthscope.measures.spectrum import participation_ratio
from depthscope.measures.width import decay, entropy_rank, held_rank, rankme, stable_rank, two_nn


def test_equal_eigenvalues_fill_as_many_directions_as_there_are() -> None:
    p = torch.tensor([2.0, 2.0, 2.0, 2.0, 0.0])
    assert_close(torch.stack([entropy_rank(p), stable_rank(p), held_rank(p, 0.9), held_rank(p, 0.5)]),
                 torch.tensor([4.0, 4.0, 4.0, 2.0]))  # fmt: skip


def test_ranks_of_a_small_spectrum_by_hand() -> None:
    # shares 1/2, 1/4, 1/4: entropy 1.5 ln 2, stable rank 2, 90 % needs all three
    p = torch.tensor([1.0, 2.0, 1.0])
    assert_close(entropy_rank(p), torch.tensor(2**1.5))
    assert_close(stable_rank(p), torch.tensor(2.0))
    assert [held_rank(p, share).item() for share in (0.5, 0.75, 0.9)] == [1, 2, 3]


def test_isotropic_data_show_the_participation_ratio_that_their_number_allows() -> None:
    torch.manual_seed(0)
    n, d = 600, 60
    rows = torch.randn(n, d, dtype=torch.float64)
    found = participation_ratio(torch.linalg.eigvalsh(torch.cov(rows.T)))
    assert abs(float(found) / (d * n / (n + d)) - 1) < 0.03


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_intrinsic_dimension_is_that_of_the_cube_whatever_it_is_embedded_in(dimension: int) -> None:
    torch.manual_seed(1)
    cube = torch.rand(1200, dimension, dtype=torch.float64)
    embedded = cube @ torch.linalg.qr(torch.randn(30, dimension, dtype=torch.float64))[0].T
    assert abs(float(two_nn(embedded)) / dimension - 1) < 0.12
    assert_close(two_nn(torch.cat([embedded, embedded[:1]])), two_nn(embedded), rtol=0.02, atol=0)


def test_too_few_points_have_no_dimension() -> None:
    assert math.isnan(float(two_nn(torch.rand(8, 3))))
    assert math.isnan(float(two_nn(torch.rand(2, 3))))
    assert math.isnan(float(two_nn(torch.ones(50, 3))))


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match=r"found 0\.0"):
        held_rank(torch.ones(3), 0.0)


def test_rankme_is_the_effective_rank_but_for_its_small_constant() -> None:
    sigma = torch.tensor([2.0, 1.0], dtype=torch.float64)
    # p = 2/3, 1/3: exp(ln 3 - 2/3 ln 2) = 3 / 2^(2/3)
    assert_close(rankme(sigma, eps=0.0), torch.tensor(3 / 2 ** (2 / 3), dtype=torch.float64))
    p = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64) + 1e-2
    assert_close(rankme(sigma, eps=1e-2), (-(p * p.log()).sum()).exp())
    assert_close(rankme(sigma), rankme(sigma, eps=0.0), rtol=1e-5, atol=0)


def test_the_decay_of_a_power_law_is_its_exponent() -> None:
    i = torch.arange(1, 101, dtype=torch.float64)
    found = decay(3 * i**-1.7)
    assert_close(found.alpha, torch.tensor(1.7, dtype=torch.float64))
    assert_close(found.r_squared, torch.tensor(1.0, dtype=torch.float64))
    # another law before the range changes nothing, another one in it does
    bent = torch.where(i < 11, 5 * i**-0.1, 5 * i**-2.0)
    assert_close(decay(bent).alpha, torch.tensor(2.0, dtype=torch.float64))
    assert decay(bent, 1, 50).r_squared < 0.99


def test_a_range_of_fewer_than_three_positive_eigenvalues_has_no_decay() -> None:
    p = torch.zeros(2, 20, dtype=torch.float64)
    p[0, :13] = torch.arange(13, 0, -1)
    p[1, :12] = torch.arange(12, 0, -1)
    assert decay(p).alpha.isnan().tolist() == [False, True]
    assert decay(torch.ones(4, dtype=torch.float64)).alpha.isnan()
    with pytest.raises(BadInput, match="first < last"):
        decay(torch.ones(4), 3, 3)


@pytest.mark.parametrize("convention", ["fit", "ml"])
def test_a_plane_in_fifty_dimensions_has_dimension_two_by_both_conventions(convention: str) -> None:
    torch.manual_seed(2)
    plane = torch.rand(1200, 2, dtype=torch.float64) @ torch.randn(2, 50, dtype=torch.float64)
    assert float(two_nn(plane, convention=convention)) == pytest.approx(2, abs=0.2)
    doubled = torch.cat([plane, plane[:400]])
    assert_close(two_nn(doubled, convention=convention), two_nn(plane, convention=convention))
    with pytest.raises(UnknownName, match="ml"):
        two_nn(plane, convention="mle")


def test_two_nn_ratios_by_hand_give_the_likeliest_exponent() -> None:
    # points at 0 and 1, then far away: neighbours of pairs on a line are known
    starts = 100.0 * torch.arange(8, dtype=torch.float64)
    points = torch.cat([starts, starts + 1])[:, None]
    # first neighbour at 1; second at 99, at the ends of the line at 100
    logs = 14 * math.log(99) + 2 * math.log(100)
    assert_close(two_nn(points, convention="ml"), torch.tensor(16 / logs, dtype=torch.float64))
