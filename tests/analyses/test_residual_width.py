"""Streams that fill a known number of directions, and narrowed passes against projections done by hand."""

from __future__ import annotations

from pathlib import Path

import formulas
import numpy as np
import pytest
import torch
from formulas import Plain, numbers, sinks_of
from planted import SLOT, TOKEN, axis, constant, look, planted, says, text_of, value
from torch import Tensor

from depthscope.analyses.residual_width import ResidualWidth
from depthscope.engine.audit import audit
from depthscope.errors import BadInput
from depthscope.runtime.tiny import tiny

N, LENGTH = 24, 49
"""Kinds of tokens, ids 3 to 26; behind position 0 a window holds each of them twice."""
HERE = slice(3, 3 + N)


def ring(documents: int = 12) -> list[str]:
    """Texts that go round the ring of N tokens, each from another one."""
    return [text_of([3 + (k + p) % N for p in range(LENGTH)]) for k in range(documents)]


def after(token: Tensor) -> Tensor:
    """The next token on the ring."""
    turned = torch.zeros_like(token)
    turned[..., HERE] = token[..., HERE].roll(1, -1)
    return turned


def paired(x: Tensor) -> Tensor:
    """Writes that make the two halves of the ring alike: token t and token t + N/2 get the same vector."""
    token = x[..., TOKEN]
    merged = torch.zeros_like(x)
    half = token[..., HERE].unflatten(-1, (2, N // 2)).sum(-2)
    merged[..., 130 : 130 + N // 2] = half
    return merged - x


def test_tokens_at_right_angles_fill_one_direction_less_than_there_are(tmp_path: Path) -> None:
    model = planted({1: says(after, 6.0), 4: paired}, 6)
    result = look(model, ResidualWidth(fit=500, tokens=8 * LENGTH), tmp_path, ring(), LENGTH)
    # 24 equal corners of a simplex have 23 equal variances, 12 have 11; a token and 6 times its successor on a ring
    # of 24, beside the token itself, have |1 + 6 w^k|^2 + 1 = 38 + 12 cos(2 pi k / 24)
    spectra = {
        0: np.ones(N - 1),
        2: 38 + 12 * np.cos(2 * np.pi * np.arange(1, N) / N),
        5: np.ones(N // 2 - 1),
    }
    for state, p in {0: spectra[0], 1: spectra[0], 2: spectra[2], 4: spectra[2], 6: spectra[5]}.items():
        share = np.sort(p / p.sum())[::-1]
        expected = {
            "participation_ratio": 1 / (share**2).sum(),
            "entropy_rank": np.exp(-(share * np.log(share)).sum()),
            "stable_rank": 1 / share.max(),
            "k90": (np.cumsum(share) < 0.9).sum() + 1,
            "k99": len(p),
        }
        for name, number in expected.items():
            np.testing.assert_allclose(
                result[name].select(state=state).value, number, rtol=1e-4, err_msg=name
            )
    held = result["width_share"].select(state=0, mode="participation_ratio")
    np.testing.assert_allclose(held.value, (N - 1) / 192, rtol=1e-4)
    assert result["isotropic_limit"].scalar() < 192


def test_a_model_that_needs_every_token_needs_every_direction_they_fill(tmp_path: Path) -> None:
    # the constant write makes the stream so long that no token is certain
    model = planted({0: constant(axis(SLOT.start, 30.0)), 1: says(after, 6.0)}, 6)
    analysis = ResidualWidth(fit=500, tokens=8 * LENGTH, sixteenths=(1, 2, 3, 8))
    result = look(model, analysis, tmp_path, ring(), LENGTH)
    # the grid is 12, 24, 36, 96, 192 of 192 directions; 23 are filled and the answer needs all of them
    assert value(result, "causal_width").tolist() == [24] * 7
    np.testing.assert_allclose(result["loss_increase"].select(k=24).value, 0, atol=1e-5)
    assert (result["loss_increase"].select(k=12).value > 0.3).all()
    assert result["noise_floor"].scalar() < 1e-6
    assert result["late_minus_middle"].scalar() == 0
    assert any("fewer than ten times the width" in note for note in result.findings.notes)


def test_a_layer_writes_into_free_directions_or_over_what_is_there(tmp_path: Path) -> None:
    def elsewhere(x: Tensor) -> Tensor:
        free = torch.zeros_like(x)
        free[..., 130 : 130 + N] = x[..., TOKEN][..., HERE]
        return free

    result = look(
        planted({1: lambda x: 0.5 * x, 3: elsewhere}, 5),
        ResidualWidth(fit=500, tokens=8 * LENGTH), tmp_path, ring(), LENGTH,
    )  # fmt: skip
    share, chance = value(result, "new_direction_share"), value(result, "new_direction_chance")
    np.testing.assert_allclose(chance, 1 - 21 / 192)
    np.testing.assert_allclose(share[3], 1, atol=1e-4)
    # the part of a copy of the state in its mean and in the two directions beyond 90 %: 3 of 24 equal ones
    assert share[1] == pytest.approx(3 / 24, abs=0.05)
    assert np.isnan(share[[0, 2, 4]]).all()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_costs_of_narrowing_equal_projections_by_hand(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=5)
    texts = [f"{name}{k * 7} boats and {k + 3} birds at noon."[:16] for k, name in enumerate("abcdefgh")]
    # every window is replayed, so the directions come from the same windows
    analysis = ResidualWidth(fit=10**6, tokens=8 * 16, sixteenths=(2, 8))
    run = audit(model, [analysis], out=tmp_path / "run", text=texts, tokens=10**6, window=16)
    result = run["residual_width"]
    windows = formulas_windows(run.path)
    assert len(windows) == len(texts)
    plain = Plain(model.net, kind)
    passes = [plain.run(ids) for ids in windows]
    kept = [~sinks_of(p) for p in passes]
    d, depth = model.anatomy.d_model, model.anatomy.n_layers
    assert "also those that the directions were fitted on" in " ".join(result.findings.notes)
    for state in range(depth + 1):
        rows = np.concatenate([numbers(p.states[state])[k] for p, k in zip(passes, kept, strict=True)])
        unit = rows / np.sqrt((rows**2).mean(-1, keepdims=True))
        mean = unit.mean(0)
        variance, axes = np.linalg.eigh(np.cov(unit.T, bias=True))
        found = result["participation_ratio"].select(state=state).value
        np.testing.assert_allclose(found, variance.sum() ** 2 / (variance**2).sum(), rtol=1e-4)
        for k in sorted({max(1, round(d * s / 16)) for s in (2, 8)}):
            top = axes[:, ::-1][:, :k]
            rise = [
                cost(plain, p, state, narrowed(numbers(p.states[state]), at, mean, top), at, ids)
                for p, at, ids in zip(passes, kept, windows, strict=True)
            ]
            expected = np.concatenate(rise).mean()
            cell = result["loss_increase"].select(state=state, k=k).value
            np.testing.assert_allclose(cell, expected, rtol=2e-3, atol=1e-5)


def narrowed(h: np.ndarray, at: np.ndarray, mean: np.ndarray, top: np.ndarray) -> Tensor:
    """Plain rows replaced by mean and top directions of their unit form, at their own size."""
    rms = np.sqrt((h**2).mean(-1, keepdims=True))
    low = ((h / rms - mean) @ top @ top.T + mean) * rms
    return torch.from_numpy(np.where(at[:, None], low, h))


def cost(
    plain: Plain, clean: formulas.Pass, state: int, stream: Tensor, at: np.ndarray, ids: list[int]
) -> np.ndarray:
    """Rise of the next token's loss at plain positions."""
    for layer in range(state, len(plain.blocks)):
        stream = stream + plain.attend(layer, stream)[0]
        stream = stream + plain.mlp(layer, stream)
    following = torch.tensor(ids[1:])[:, None]
    loss = [
        -torch.log_softmax(plain.logits(x), -1)[:-1].gather(-1, following)[:, 0]
        for x in (stream, clean.states[-1])
    ]
    return numbers(loss[0] - loss[1])[at[:-1]]


def formulas_windows(path: Path) -> list[list[int]]:
    """Ids of every window the run read."""
    import pyarrow.parquet as pq

    return [list(r["ids"]) for r in pq.read_table(path / "inputs" / "text.parquet").to_pylist()]


def test_an_encoder_has_spectra_and_divergences_but_no_loss(tmp_path: Path) -> None:
    texts = [f"text number {k} of the encoder that reads both ways" for k in range(9)]
    found = look(tiny("bert", torch.float32), ResidualWidth(fit=300, tokens=128), tmp_path, texts)
    assert np.isfinite(value(found, "participation_ratio")).all()
    assert np.isfinite(value(found, "output_kl")).all()
    for name in ("loss_increase", "causal_width", "late_minus_middle"):
        assert np.isnan(value(found, name)).all()
        assert "no causal language model" in found[name].missing


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"states": 1}, "states=1 must be 2 or more"),
        ({"sixteenths": (0, 4)}, r"sixteenths=\(0, 4\) must be one number or more, each from 1 to 16"),
        ({"allowed": 0.0}, r"allowed=0\.0 \(rise of the loss\) must be above 0"),
        ({"tokens": 16, "documents": 8}, "fewer than 4 tokens a window"),
    ],
)
def test_wrong_parameters_are_told(given: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ResidualWidth(**given).needs(tiny("llama").anatomy)
