"""Shapes of single sets of token vectors: every mode by its formula, and inputs that have no shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depthscope.engine.profile import Asked, Chosen, Curved, Spectral, shapes
from depthscope.errors import BadInput, UnknownName

F64 = torch.float64
MODES = (
    "wei", "uncentred", "unit", "centred", "reference", "wei_no_first", "unit_no_massive", "reference_no_first",
)  # fmt: skip
CURVED = (
    "signed",
    "folded",
    "state_angle",
    "signed_k2",
    "folded_wei",
    "signed_no_first",
    "state_angle_no_massive",
)
FEW = Asked(("wei", "uncentred", "unit", "centred", "reference"), ("signed", "folded", "state_angle"))


def chosen(vectors: Tensor, length: int | None = None, massive: int | None = None) -> Chosen:
    """All rows exact; position 0 and the massive one are left out where asked."""
    everything = torch.ones(vectors.shape[:2], dtype=torch.bool)
    everything[:, length:] = length is None
    later = everything.clone()
    later[:, 0] = False
    plain = later.clone()
    if massive is not None:
        plain[:, massive] = False
    exact = torch.ones(len(vectors), dtype=torch.bool)
    return Chosen({"all": everything, "no_first": later, "no_massive": plain}, exact)


def prepared(z: np.ndarray, kind: str) -> np.ndarray:
    z = z - z.mean(0) if kind in ("wei", "centred", "reference") else z
    return z / np.linalg.norm(z, axis=1, keepdims=True) if kind in ("wei", "unit", "reference") else z


def spectrum(z: np.ndarray, kind: str) -> np.ndarray:
    z = prepared(z, kind)
    if kind != "reference":
        p = np.linalg.svd(z, compute_uv=False) ** 2
        return p / p.sum()
    k = z @ z.T if len(z) <= z.shape[1] else z.T @ z
    values = np.linalg.eigvalsh(np.maximum(k, 0))
    return values[values > 0] / values[values > 0].sum()


def entropy(p: np.ndarray) -> float:
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum())


def angles(v: np.ndarray, step: int = 1) -> np.ndarray:
    cosine = (v[step:] * v[:-step]).sum(-1)
    return np.arccos(cosine / np.linalg.norm(v[step:], axis=1) / np.linalg.norm(v[:-step], axis=1))


def turned(z: np.ndarray, mode: str) -> float:
    if mode.startswith("state_angle"):
        return float(angles(prepared(z, "wei")).mean())
    z = prepared(z, "wei") if "_wei" in mode else z
    step = 2 if "_k2" in mode else 1
    found = angles(z[step:] - z[:-step], step)
    return float((np.minimum(found, np.pi - found) if mode.startswith("folded") else found).mean())


def left(z: np.ndarray, mode: str) -> np.ndarray:
    """Position 0 left out by _no_first, positions 0 and 5 by _no_massive."""
    return (
        np.delete(z, [0, 5], 0)
        if mode.endswith("_no_massive")
        else z[1:]
        if mode.endswith("_no_first")
        else z
    )


@pytest.mark.parametrize(("tokens", "d"), [(12, 30), (30, 12)])
def test_every_mode_of_spectra_is_its_formula(tokens: int, d: int) -> None:
    vectors = torch.randn(2, tokens, d, dtype=F64) + 1
    asked = Asked(MODES, ("signed",), (0.5, 2.0, math.inf), "maxRank")
    found = shapes(vectors, chosen(vectors, massive=5), asked)
    for row, z in enumerate(vectors.numpy()):
        for k, mode in enumerate(MODES):
            kind, kept = mode.split("_")[0], left(z, mode)
            p = spectrum(kept, kind)
            most = math.log(min(len(kept) - (kind in ("wei", "centred", "reference")), d))
            expected = {
                "prompt_entropy": entropy(p) / most,
                "prompt_entropy_s2": -math.log((p**2).sum()) / most,
                "effective_rank": math.exp(entropy(np.sqrt(p))),
                "top_share": p.max(),
                "vanished_share": 0,
            }
            for name, number in expected.items():
                np.testing.assert_allclose(
                    found[name][row, k], number, rtol=1e-5, atol=1e-9, err_msg=f"{mode} {name}"
                )
            orders = [2 * math.log(np.sqrt(p).sum()), -math.log((p**2).sum()), -math.log(p.max())]
            # rounding of zero eigenvalues enters order 1/2 by its root
            np.testing.assert_allclose(found["renyi_entropy"][row, k], np.array(orders) / most, rtol=1e-5)


def test_every_mode_of_curvature_is_its_formula() -> None:
    vectors = torch.randn(2, 12, 30, dtype=F64) + 1
    found = shapes(vectors, chosen(vectors, massive=5), Asked(("wei",), CURVED))["curvature"]
    for row, z in enumerate(vectors.numpy()):
        for k, mode in enumerate(CURVED[:-1]):
            np.testing.assert_allclose(found[row, k], turned(left(z, mode), mode), rtol=1e-7, err_msg=mode)
        # centred without positions 0 and 5; no angle reaches across the gap
        centred = z - np.delete(z, [0, 5], 0).mean(0)
        expected = np.concatenate([angles(centred[1:5]), angles(centred[6:])]).mean()
        np.testing.assert_allclose(found[row, -1], expected, rtol=1e-7)


def test_the_reference_parts_from_the_formula_in_its_stated_direction() -> None:
    vectors = torch.randn(4, 200, 60, dtype=F64)
    found = shapes(vectors, chosen(vectors), Asked(("wei", "reference"), ("signed", "folded", "folded_wei")))
    # clamping inflates entropy; independent vectors turn by 2 pi / 3, folded to pi / 3
    entropies = found["prompt_entropy"]
    tall = vectors[:, :40].mT.repeat(1, 4, 1)  # 240 rows of 40: the other side
    other = shapes(tall, chosen(tall), Asked(("wei", "reference"), ("signed",)))["prompt_entropy"]
    assert ((entropies[:, 1] - entropies[:, 0]).abs() > 1e-3).all()
    assert ((other[:, 1] - other[:, 0]).abs() > 1e-3).all()
    angle = found["curvature"].mean(0)
    assert angle[0] == pytest.approx(2 * math.pi / 3, abs=0.03)
    assert angle[1] == pytest.approx(math.pi / 3, abs=0.03)
    assert angle[2] == pytest.approx(math.pi / 3, abs=0.03)


def test_one_token_a_hundred_times_as_long_empties_the_spectrum_unless_it_is_left_out() -> None:
    vectors = torch.randn(1, 60, 80, dtype=F64)
    vectors[:, 0] *= 100
    asked = Asked(("wei", "wei_no_first", "uncentred", "uncentred_no_first", "unit"), ("signed",))
    found = shapes(vectors, chosen(vectors), asked)
    wei, wei_later, raw, raw_later, unit = found["prompt_entropy"][0].tolist()
    assert wei < 0.75
    assert raw < 0.05
    assert min(wei_later, raw_later, unit) > 0.9
    assert found["largest_token_share"].item() > 0.98
    assert found["top_share"][0, 2].item() == pytest.approx(found["largest_token_share"].item(), abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_tokens_have_no_spread_whatever_rounding_says(dtype: torch.dtype) -> None:
    vectors = (torch.randn(1, 1, 64) * 100).expand(1, 30, 64).to(dtype).float()
    if dtype == torch.bfloat16:  # states computed at different places differ in the last bit
        vectors = vectors * (1 + torch.randint(0, 2, (1, 30, 64)) / 256)
    vanished = 1e-2 if dtype == torch.bfloat16 else 1e-4
    found = shapes(vectors, chosen(vectors), Asked(("wei", "uncentred"), ("state_angle",), vanished=vanished))
    assert found["prompt_entropy"][0, 0].isnan()
    assert found["vanished_share"][0].tolist() == [1, 0]
    assert found["prompt_entropy"][0, 1].item() == pytest.approx(0, abs=0.02)
    assert found["curvature"].isnan().all()
    assert found["anisotropy"][0, 0].item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_texts_too_short_for_a_measure_have_none_and_do_not_touch_their_neighbours(length: int) -> None:
    vectors = torch.randn(2, 9, 16, dtype=F64)
    some = chosen(vectors)
    for mask in some.masks.values():
        mask[0, length:] = False
    found = shapes(vectors, some, FEW)
    assert found["curvature"][0].isnan().all()
    alone = shapes(vectors[1:], chosen(vectors[1:]), FEW)
    for name, values in found.items():
        torch.testing.assert_close(values[1:], alone[name], rtol=1e-6, atol=1e-6, equal_nan=True)
    if length < 2:
        assert found["prompt_entropy"][0].isnan().all()
        assert found["anisotropy"][0].isnan().all()
    else:
        # two centred rows are opposite: one direction; raw they are two
        np.testing.assert_allclose(found["prompt_entropy"][0, [0, 3]], 0, atol=1e-6)
        assert (found["prompt_entropy"][0, [1, 2]] > 0.5).all()


def test_a_batch_of_one_token_is_a_gap_and_no_error() -> None:
    vectors = torch.randn(3, 1, 8)
    found = shapes(vectors, chosen(vectors), Asked(FEW.spectral, (*FEW.curved, "signed_k3")))
    assert found["prompt_entropy"].isnan().all()
    assert found["curvature"].isnan().all()
    np.testing.assert_allclose(found["largest_token_share"], 1)


def test_long_texts_are_taken_in_parts_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(5, 9, 6, dtype=F64)
    whole = shapes(vectors, chosen(vectors), FEW)
    monkeypatch.setattr("depthscope.engine.profile.CELLS", 2 * 81)
    for name, values in shapes(vectors, chosen(vectors), FEW).items():
        torch.testing.assert_close(values, whole[name], rtol=1e-12, atol=1e-12)


def test_only_the_exact_rows_have_a_full_spectrum() -> None:
    vectors = torch.randn(3, 9, 6, dtype=F64)
    some = chosen(vectors)
    found = shapes(vectors, Chosen(some.masks, torch.tensor([False, True, False])), FEW)
    assert found["effective_rank"].isnan().all(1).tolist() == [True, False, True]
    assert found["prompt_entropy_s2"].isfinite().all()


def test_names_of_modes_are_read_or_refused() -> None:
    assert Spectral.of("centred_no_massive") == Spectral("centred", "no_massive")
    assert Curved.of("folded_wei_k12_no_first") == Curved("folded", True, 12, "no_first")
    with pytest.raises(UnknownName, match="wei_no_first"):
        Spectral.of("wei_no_frist")
    with pytest.raises(UnknownName, match="signed"):
        Curved.of("sined")
    for wrong in ("signed_k0", "state_angle_k2", "state_angle_wei"):
        with pytest.raises(BadInput, match=wrong):
            Curved.of(wrong)
