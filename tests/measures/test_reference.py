"""Quirks of published code, each toggled and held to the direction in which it changes the number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from depthscope.measures.geometry import curvature
from depthscope.measures.reference import clamped_spectrum, paired_spectrum, reference_spectrum
from depthscope.measures.spectrum import gram_eigenvalues, prepare, prompt_entropy, renyi_entropy

F64 = torch.float64


def everything(vectors: torch.Tensor) -> torch.Tensor:
    return torch.ones(vectors.shape[:2], dtype=torch.bool)


def entropy_by_loop(z: np.ndarray) -> float:
    """Centre, unit rows, smaller-side rule by n > d, clamp, positive eigenvalues, Shannon."""
    z = z - z.mean(0)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    k = z.T @ z if len(z) > z.shape[1] else z @ z.T
    values = np.linalg.eigvalsh(np.where(k < 0, 0, k))
    p = values[values > 0] / values[values > 0].sum()
    return float(-(p * np.log(p)).sum())


@pytest.mark.parametrize(("n", "d"), [(20, 60), (60, 20), (30, 30)])
def test_the_reference_mode_is_what_the_loop_of_the_code_gives_and_above_the_formula(n: int, d: int) -> None:
    vectors = torch.randn(2, n, d, dtype=F64)
    found = renyi_entropy(reference_spectrum(vectors, everything(vectors)))
    expected = torch.tensor([entropy_by_loop(z.numpy()) for z in vectors], dtype=F64)
    assert_close(found, expected)
    plain = prompt_entropy(vectors, everything(vectors), normalisation="raw")
    side = renyi_entropy(
        clamped_spectrum(prepare(vectors, everything(vectors), "uncentred"), everything(vectors))
    )
    assert ((found - plain).abs() > 0.02).all()
    assert side.isfinite().all()


def test_clamping_inflates_entropy_and_parts_the_two_sides() -> None:
    # two opposite groups: one direction, entropy 0; clamped, two blocks without a link, entropy ln 2
    rows = torch.tensor([[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 3, dtype=F64)[None]
    wide = torch.nn.functional.pad(rows, (0, 6))
    assert_close(renyi_entropy(gram_eigenvalues(wide)), torch.zeros(1, dtype=F64), rtol=0, atol=1e-9)
    assert_close(
        renyi_entropy(clamped_spectrum(wide, everything(wide))), torch.full((1,), math.log(2), dtype=F64)
    )
    # the other side, 2 x 2, has nothing to clamp
    assert_close(
        renyi_entropy(clamped_spectrum(rows, everything(rows))), torch.zeros(1, dtype=F64), rtol=0, atol=1e-9
    )


def test_padding_does_not_choose_the_side() -> None:
    vectors = torch.randn(1, 30, 20, dtype=F64)
    mask = torch.arange(30)[None] < 15
    assert_close(reference_spectrum(vectors, mask)[:, :15], reference_spectrum(vectors[:, :15], mask[:, :15]))


def test_centring_pairs_of_texts_makes_opposite_vectors_and_another_entropy() -> None:
    vectors = torch.randn(40, 64, dtype=F64)
    found = renyi_entropy(paired_spectrum(vectors))
    u = vectors[0::2] - vectors[1::2]
    u = u / u.norm(dim=-1, keepdim=True)
    k = torch.stack([u, -u], 1).flatten(0, 1)
    values = torch.linalg.eigvalsh((k @ k.T).clamp_min(0))
    p = values[values > 0] / values[values > 0].sum()
    assert_close(found, -(p * p.log()).sum())
    # one shared direction: pairs remove it, the whole set's mean does too; clamped pairs stay above the formula
    shared = vectors + 30 * torch.randn(64, dtype=F64) * torch.randn(40, 1, dtype=F64)
    batch2 = renyi_entropy(paired_spectrum(shared))
    plain = prompt_entropy(shared[None], torch.ones(1, 40, dtype=torch.bool), normalisation="raw")[0]
    assert batch2 > plain + 0.1
    assert_close(paired_spectrum(vectors[:39])[38:], torch.zeros(1, dtype=F64))


def test_nothing_to_compare_has_no_reference_spectrum() -> None:
    assert reference_spectrum(torch.randn(1, 1, 4), torch.ones(1, 1, dtype=torch.bool)).isnan().all()
    assert reference_spectrum(torch.ones(1, 5, 4), torch.ones(1, 5, dtype=torch.bool)).isnan().all()
    assert paired_spectrum(torch.ones(4, 3)).isnan().all()


def test_folding_reverses_the_order_of_obtuse_paths_and_state_angles_are_another_quantity() -> None:
    # an independent path (120 degrees) turns more than a random walk (90): folded says the opposite
    independent, walk = torch.randn(1, 300, 800), torch.randn(1, 300, 800).cumsum(1)
    signed = [curvature(path, everything(path)).angle.item() for path in (independent, walk)]
    folded = [curvature(path, everything(path), "folded").angle.item() for path in (independent, walk)]
    assert signed[0] > signed[1] + 0.4
    assert folded[0] < folded[1] - 0.4
    # of independent vectors the states stand at right angles, their steps at two thirds of pi
    state = curvature(independent, everything(independent), "state_angle").angle.item()
    assert state == pytest.approx(math.pi / 2, abs=0.02)
    assert signed[0] == pytest.approx(2 * math.pi / 3, abs=0.02)
