"""What one product a text gives, against the vectors themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput, UnknownName
from depthscope.measures import gram
from depthscope.measures.geometry import cosine_anisotropy, curvature
from depthscope.measures.spectrum import MODES, gram_eigenvalues, prepare, s2_entropy

F64 = torch.float64


def cloud(batch: int = 3, token: int = 9, d: int = 16) -> torch.Tensor:
    return torch.randn(batch, token, d, generator=torch.Generator().manual_seed(5), dtype=F64)


@pytest.mark.parametrize("mode", MODES)
def test_the_gram_route_has_the_spectrum_of_the_prepared_vectors(mode: str) -> None:
    vectors = cloud()
    vectors[1, 0] *= 300
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[2, 6:] = False
    prepared = gram.prepared_gram(gram.token_gram(vectors), mask, mode)
    rows = prepare(vectors, mask, mode)
    assert_close(prepared, rows @ rows.mT, rtol=1e-9, atol=1e-9)
    assert_close(gram.spectrum_of(prepared), gram_eigenvalues(rows), rtol=1e-9, atol=1e-12)
    assert_close(gram.s2_of(prepared), s2_entropy(rows))


def test_the_plain_gram_is_left_as_it_was_and_masked_nan_stay_out() -> None:
    product = gram.token_gram(cloud())
    product[:, :, 8] = product[:, 8] = math.nan
    before, mask = product.clone(), torch.arange(9).expand(3, 9) < 8
    for mode in MODES:
        found = gram.prepared_gram(product, mask, mode)
        assert found.isfinite().all()
        assert (found[:, 8] == 0).all()
    assert_close(product, before, rtol=0, atol=0, equal_nan=True)


def test_rows_that_vanish_in_a_coarse_format_are_zero_only_if_that_is_said() -> None:
    # all tokens alike but for the last bit of bfloat16, one part in 128
    vectors = (1 + torch.randint(0, 2, (1, 6, 32)) / 128).bfloat16()
    product, mask = gram.token_gram(vectors), torch.ones(1, 6, dtype=torch.bool)
    assert (gram.prepared_gram(product, mask, "wei", vanished=1e-2) == 0).all()
    assert (gram.prepared_gram(product, mask, "wei").diagonal(dim1=-2, dim2=-1) > 0).any()
    assert (prepare(vectors, mask, "wei") == 0).all()


def test_a_spectrum_with_a_negative_eigenvalue_is_refused() -> None:
    with pytest.raises(ValueError, match="no negative eigenvalues"):
        gram.spectrum_of(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=F64))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_turns_from_products_are_the_angles_of_the_path(dtype: torch.dtype) -> None:
    vectors = (cloud() + 3).to(dtype)
    vectors[0, 0] *= 300
    vectors[2, 4] = vectors[2, 3]
    angles, defined = gram.step_turns(gram.token_gram(vectors))
    mask = torch.ones(3, 9, dtype=torch.bool)
    expected = curvature(vectors, mask)
    mean = torch.where(defined, angles, 0.0).sum(-1) / defined.sum(-1)
    assert_close(mean, expected.angle.double(), rtol=1e-6, atol=1e-6)
    assert (~defined).sum(-1).tolist() == expected.skipped.tolist() == [0, 0, 2]


def test_longer_steps_turn_as_the_thinned_paths_do() -> None:
    vectors = cloud(1, 10)
    angles = gram.step_turns(gram.token_gram(vectors), step=3).angles[0]
    assert angles.shape == (4,)
    for start in range(4):
        three = vectors[:, start : start + 7 : 3]
        assert_close(angles[start], curvature(three, torch.ones(1, 3, dtype=torch.bool)).angle[0])


def test_a_line_does_not_turn_and_a_zig_zag_turns_back_at_step_one_but_not_at_step_two() -> None:
    line = gram.token_gram(torch.arange(8.0)[None, :, None] * torch.tensor([3.0, -1.0]))
    zig_zag = gram.token_gram(torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(4, 1)[None])
    assert_close(gram.step_turns(line).angles, torch.zeros(1, 6, dtype=F64), rtol=0, atol=1e-7)
    assert_close(gram.step_turns(zig_zag).angles, torch.full((1, 6), math.pi, dtype=F64))
    assert not gram.step_turns(zig_zag, step=2).defined.any()


def test_angles_between_centred_states_are_those_of_the_state_angle() -> None:
    vectors, mask = cloud(), torch.ones(3, 9, dtype=torch.bool)
    turns = gram.state_turns(gram.prepared_gram(gram.token_gram(vectors), mask, "wei"))
    assert_close(turns.angles.mean(-1), curvature(vectors, mask, "state_angle").angle)


def test_mean_cosines_of_some_tokens_are_the_anisotropy_of_those_alone() -> None:
    vectors = cloud(2) + 1
    vectors[0, 2] = 0
    masks = torch.ones(2, 3, 9, dtype=torch.bool)
    masks[:, 1, :4] = False
    masks[:, 2, 1:] = False
    found = gram.mean_cosines(gram.token_gram(vectors), masks)
    for row in range(2):
        assert_close(found[row, 0], cosine_anisotropy(vectors[row]))
        assert_close(found[row, 1], cosine_anisotropy(vectors[row, 4:]))
    assert found[:, 2].isnan().all()


def test_unknown_modes_and_steps_of_nothing_are_refused() -> None:
    product, mask = gram.token_gram(cloud()), torch.ones(3, 9, dtype=torch.bool)
    with pytest.raises(UnknownName, match="centred"):
        gram.prepared_gram(product, mask, "centered")
    with pytest.raises(BadInput, match="step=0"):
        gram.step_turns(product, 0)
