"""Composition of heads against the full matrices, and by hand."""

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput
from depthscope.measures.composition import composition, null_composition


def test_small_products_give_the_norms_of_the_full_circuits() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 4, 9, dtype=torch.float64).unbind(0)
    o, v = torch.randn(2, 9, 4, dtype=torch.float64), torch.randn(2, 4, 9, dtype=torch.float64)
    found = composition(q, k, o, v)
    for r in range(3):
        for w in range(2):
            qk, ov = q[r].T @ k[r], o[w] @ v[w]
            expected = torch.linalg.norm(qk @ ov) / (torch.linalg.norm(qk) * torch.linalg.norm(ov))
            assert_close(found[r, w], expected)


def test_a_head_that_reads_what_another_writes_composes_fully_and_one_that_reads_elsewhere_not_at_all() -> (
    None
):
    unit = torch.eye(4)
    reads, elsewhere = unit[:1][None], unit[1:2][None]
    writes, value = unit[:, :1][None], unit[3:][None]
    assert_close(composition(unit[2:3][None], reads, writes, value), torch.ones(1, 1))
    assert_close(composition(unit[2:3][None], elsewhere, writes, value), torch.zeros(1, 1))


def test_random_factors_are_of_the_size_of_one_over_the_root_of_the_width() -> None:
    mean, deviation = null_composition(64, 8, 8)
    assert mean == pytest.approx(1 / 8, rel=0.1)
    assert 0 < deviation < 0.03
    with pytest.raises(BadInput, match="1 draws"):
        null_composition(64, 8, 8, draws=1)
