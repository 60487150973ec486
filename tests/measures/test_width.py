"""Ranks of spectra by hand, and the intrinsic dimension of clouds whose dimension is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput
from depthscope.measures.spectrum import participation_ratio
from depthscope.measures.width import entropy_rank, held_rank, stable_rank, two_nn


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
