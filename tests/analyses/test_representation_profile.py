"""Spectra, angles and cosines of token paths that were drawn by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from formulas import Plain
from planted import (
    LENGTH,
    SLOT,
    TOKEN,
    V,
    Write,
    at_token,
    axis,
    constant,
    look,
    planted,
    rising,
    text_of,
    value,
)
from torch import Tensor

from depthscope.analyses.representation_profile import RepresentationProfile
from depthscope.engine.audit import audit
from depthscope.errors import BadInput, UnknownName
from depthscope.runtime.tiny import tiny

WEI, NO_FIRST, NO_MASSIVE, UNCENTRED = range(4)
SIGNED, SIGNED_NO_FIRST, FOLDED = range(3)
N = LENGTH


def moved_to(place: Write) -> Write:
    """The stream becomes place(stream)."""
    return lambda x: place(x) - x


def number_of(x: Tensor) -> Tensor:
    """The id of the current token, [.. token 1]."""
    return (x[..., TOKEN] * torch.arange(V, dtype=x.dtype)).sum(-1, keepdim=True)


def line(x: Tensor) -> Tensor:
    """Token t at t times one direction."""
    return number_of(x) * axis(SLOT.start)


def zig_zag(x: Tensor) -> Tensor:
    """Even tokens on one side, odd ones on the other."""
    return (1 - 2 * (number_of(x) % 2)) * axis(SLOT.start) + 5 * axis(SLOT.start + 1)


def test_different_one_hot_tokens_are_as_diverse_as_can_be(tmp_path: Path) -> None:
    result = look(planted({}), "representation_profile", tmp_path, rising())
    entropy, second = value(result, "prompt_entropy"), value(result, "prompt_entropy_s2")
    np.testing.assert_allclose(entropy[:, UNCENTRED], 1)
    np.testing.assert_allclose(second[:, UNCENTRED], 1)
    np.testing.assert_allclose(value(result, "effective_rank")[:, UNCENTRED], N)
    # centring takes one of the n equal directions
    np.testing.assert_allclose(entropy[:, WEI], math.log(N - 1) / math.log(N))
    np.testing.assert_allclose(second[:, WEI], math.log(N - 1) / math.log(N))
    np.testing.assert_allclose(value(result, "effective_rank")[:, WEI], N - 1, rtol=1e-6)
    np.testing.assert_allclose(entropy[:, NO_FIRST], math.log(N - 2) / math.log(N - 1))
    np.testing.assert_allclose(entropy[:, NO_MASSIVE], entropy[:, NO_FIRST])
    np.testing.assert_allclose(value(result, "anisotropy"), 0, atol=1e-12)


def test_independent_steps_that_share_a_point_turn_by_two_thirds_of_pi(tmp_path: Path) -> None:
    curvature = value(look(planted({}), "representation_profile", tmp_path, rising()), "curvature")
    np.testing.assert_allclose(curvature[:, SIGNED], 2 * np.pi / 3)
    np.testing.assert_allclose(curvature[:, SIGNED_NO_FIRST], 2 * np.pi / 3)
    np.testing.assert_allclose(curvature[:, FOLDED], np.pi / 3)


def test_tokens_along_one_direction_have_no_diversity_and_a_straight_path(tmp_path: Path) -> None:
    result = look(planted({2: moved_to(line)}), "representation_profile", tmp_path, rising())
    after = slice(3, None)
    for name in ("prompt_entropy", "prompt_entropy_s2"):
        np.testing.assert_allclose(value(result, name)[after], 0, atol=1e-9)
    np.testing.assert_allclose(value(result, "effective_rank")[after], 1, atol=1e-5)
    np.testing.assert_allclose(value(result, "curvature")[after], 0, atol=1e-7)
    np.testing.assert_allclose(value(result, "anisotropy")[after], 1)


def test_a_zig_zag_turns_by_pi_and_folds_to_zero(tmp_path: Path) -> None:
    result = look(planted({2: moved_to(zig_zag)}), "representation_profile", tmp_path, rising())
    np.testing.assert_allclose(value(result, "curvature")[3:], np.array([[np.pi, np.pi, 0]] * 4), atol=1e-7)


def test_two_directions_of_equal_weight_have_rank_two(tmp_path: Path) -> None:
    def corners(x: Tensor) -> Tensor:
        odd = number_of(x) % 2
        return odd * axis(SLOT.start) + (1 - odd) * axis(SLOT.start + 1)

    result = look(planted({0: moved_to(corners)}), "representation_profile", tmp_path, rising())
    np.testing.assert_allclose(value(result, "effective_rank")[1:, UNCENTRED], 2, rtol=1e-5)
    np.testing.assert_allclose(value(result, "prompt_entropy")[1:, UNCENTRED], math.log(2) / math.log(N))
    # half of the pairs are alike: 2 (n/2)(n/2 - 1) of n (n - 1)
    np.testing.assert_allclose(value(result, "anisotropy")[1:, 0], (N / 2 - 1) / (N - 1))


def test_one_massive_token_makes_a_valley_only_where_it_is_left_in(tmp_path: Path) -> None:
    # uncentred, one vector of 1000 beside 23 of norm sqrt 2
    texts = [text_of([3 + k, *range(20, 31), 60, *range(31, 42)]) for k in range(10)]
    massive = at_token(60, constant(axis(SLOT.start, 1000.0)))
    result = look(planted({2: massive}), "representation_profile", tmp_path, texts)
    p = np.array([1e6 + 2, *[2.0] * (N - 1)]) / (1e6 + 2 + 2 * (N - 1))
    expected = -(p * np.log(p)).sum() / math.log(N)
    np.testing.assert_allclose(value(result, "prompt_entropy")[3:, UNCENTRED], expected, rtol=1e-6)
    entropy = value(result, "prompt_entropy")
    # the sinks, here position 0 and the massive one, are gone: n - 2 tokens, centred
    np.testing.assert_allclose(entropy[:, NO_MASSIVE], math.log(N - 3) / math.log(N - 2))
    assert (entropy[3:, WEI] < entropy[3:, NO_MASSIVE] - 0.1).all()


def test_equal_tokens_have_no_spread_and_no_path(tmp_path: Path) -> None:
    result = look(planted({}), "representation_profile", tmp_path, [text_of([20] * LENGTH)] * 10)
    entropy = value(result, "prompt_entropy")
    assert np.isnan(entropy[:, [WEI, NO_FIRST, NO_MASSIVE]]).all()
    np.testing.assert_allclose(entropy[:, UNCENTRED], 0, atol=1e-9)
    assert np.isnan(value(result, "curvature")).all()
    assert "fewer than two different token vectors" in result["prompt_entropy"].missing
    np.testing.assert_allclose(value(result, "anisotropy"), 1)


def test_the_full_spectrum_is_taken_of_as_many_windows_as_asked(tmp_path: Path) -> None:
    result = look(planted({}), RepresentationProfile(exact=3), tmp_path, rising())
    counted, all_counted = result["prompt_entropy"].n_items, result["prompt_entropy_s2"].n_items
    assert counted is not None
    assert all_counted is not None
    assert (counted == 3).all()
    assert (all_counted == 10).all()


def test_random_weights_make_no_straight_path_and_no_single_direction(tmp_path: Path) -> None:
    texts = [f"text number {k} of the negative control" for k in range(9)]
    result = look(tiny("llama", torch.float32), "representation_profile", tmp_path, texts)
    assert (value(result, "prompt_entropy") > 0.3).all()
    assert (np.abs(value(result, "curvature")[:, SIGNED] - 2 * np.pi / 3) < 0.4).all()
    assert (np.abs(value(result, "anisotropy")) < 0.8).all()


def by_hand(x: Tensor) -> float:
    """Effective rank of centred unit rows."""
    z = x.detach().double().numpy()
    z = z - z.mean(0)
    sigma = np.linalg.svd(z / np.linalg.norm(z, axis=1, keepdims=True), compute_uv=False)
    p = sigma[sigma > 1e-12] / sigma.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def test_points_of_a_block_and_the_final_norm_are_those_of_the_model(tmp_path: Path) -> None:
    model = tiny("llama", torch.float64, seed=3)
    asked = RepresentationProfile(
        modes=("wei",), curved=("signed", "folded"), final_norm=True, sublayers=True
    )
    texts = [f"{k * k} boats went out and {k} came back" for k in range(3)]
    run = audit(model, [asked], out=tmp_path / "run", text=texts, tokens=10**6, window=64)
    result = run["representation_profile"]
    plain, rows = Plain(model.net, "llama"), pq.read_table(run.path / "inputs" / "text.parquet").to_pylist()
    passes = [plain.run(row["ids"]) for row in rows]
    points = [dict[str, list[float]]() for _ in plain.blocks]
    for seen in passes:
        for k, block in enumerate(plain.blocks):
            middle = seen.states[k] + seen.attention[k]
            with torch.no_grad():
                there = {
                    "attn_in": block.input_layernorm(seen.states[k]), "attn_out": seen.attention[k],
                    "resid_mid": middle, "mlp_in": block.post_attention_layernorm(middle),
                    "mlp_out": seen.mlp[k], "resid_post": seen.states[k + 1],
                }  # fmt: skip
            for name, x in there.items():
                points[k].setdefault(name, []).append(by_hand(x))
    found = result["sublayer_effective_rank"]
    for k, by in enumerate(points):
        for name, ranks in by.items():
            cell = found.select(layer=k, sublayer=name, mode="wei").value
            np.testing.assert_allclose(cell, np.mean(ranks), rtol=1e-5, err_msg=name)
        assert np.isnan(found.select(layer=k, sublayer="ssm_out", mode="wei").value)
    assert "a state" in found.note
    with torch.no_grad():
        after = [
            np.mean([by_hand(plain.base.norm(p.states[s])) for p in passes]) for s in range(len(points) + 1)
        ]
    np.testing.assert_allclose(value(result, "normed_effective_rank")[:, 0], after, rtol=1e-5)
    assert "after the final norm" in result["normed_curvature"].note


def test_between_parallel_sublayers_there_is_no_state_and_the_note_says_so(tmp_path: Path) -> None:
    texts = [f"{k * k} boats went out" for k in range(3)]
    asked = RepresentationProfile(modes=("wei",), sublayers=True)
    found = look(tiny("gpt_neox", torch.float32), asked, tmp_path, texts)["sublayer_prompt_entropy_s2"]
    assert "blocks are parallel" in found.note
    assert np.isfinite(found.select(sublayer="resid_mid").value).all()
    state_space = look(tiny("mamba", torch.float32), asked, tmp_path / "ssm", texts)[
        "sublayer_prompt_entropy_s2"
    ]
    assert np.isnan(state_space.select(sublayer="attn_in").value).all()
    assert np.isfinite(state_space.select(sublayer="ssm_out").value).all()


@pytest.mark.parametrize(
    "given",
    [
        {"modes": ()},
        {"normalisation": "none"},
        {"orders": (-1.0,)},
        {"curved": ("signed_k0",)},
        {"exact": -1},
    ],
)
def test_parameters_that_make_no_sense_are_refused(given: dict[str, object]) -> None:
    with pytest.raises((BadInput, UnknownName)):
        RepresentationProfile(**given)  # type: ignore[arg-type]


def test_change_of_curvature_is_within_the_same_windows(tmp_path: Path) -> None:
    result = look(planted({2: moved_to(zig_zag)}), "representation_profile", tmp_path, rising())
    change = result["curvature_change"]
    np.testing.assert_allclose(change.value[:3], 0, atol=1e-9)
    np.testing.assert_allclose(change.value[3:, SIGNED], np.pi / 3, rtol=1e-6)
    np.testing.assert_allclose(change.value[3:, FOLDED], -np.pi / 3, rtol=1e-6)
