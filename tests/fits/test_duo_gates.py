"""Gates: what they mix, the zero gradient where all are open, and a model of known heads whose gates part."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from wired_heads import planted_heads

from depthscope.engine.reading import Reading
from depthscope.engine.study import conduct
from depthscope.errors import BadInput, Refused
from depthscope.fits.duo_gates import DuoGates, rate
from depthscope.materials.passkeys import with_passkeys
from depthscope.runtime.gated_attention import gate_loss, gated_layers, gating, last_states
from depthscope.runtime.head_ablation import Ablation, ablated
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

IDS = torch.tensor([[5, 9, 7, 30, 9, 11, 4, 8, 2, 3, 1, 6]])
START, RECENT = 1, 2


def ends(model: Model, gates: torch.Tensor) -> torch.Tensor:
    return last_states(model, Batch.of_ids(IDS), torch.arange(12), gates, START, RECENT)


@pytest.fixture
def model() -> Model:
    return tiny("llama", torch.float64)


def test_open_gates_are_the_intact_model_and_closed_ones_the_streaming_one(model: Model) -> None:
    batch = Batch.of_ids(IDS)
    plain = last_states(model, batch, torch.arange(12))
    assert_close(ends(model, torch.ones(4, 2)).detach(), plain, atol=1e-9, rtol=0)
    every = tuple((layer, head) for layer in range(4) for head in range(4))
    ((_, seen),) = ablated(model, batch, [Ablation(every, "stream", start=START, recent=RECENT)])
    streams = model.head.normalised(seen["L3.resid_post"][0])
    assert_close(ends(model, torch.zeros(4, 2)).detach(), streams, atol=1e-9, rtol=0)


def test_the_loss_at_open_gates_is_zero_and_so_is_its_gradient(model: Model) -> None:
    full = last_states(model, Batch.of_ids(IDS), torch.arange(12))
    gates = torch.ones(4, 2, requires_grad=True)
    apart, _ = gate_loss(full, ends(model, gates), gates, 0.0)
    apart.backward()
    assert gates.grad is not None
    assert float(apart.detach()) < 1e-20
    assert float(gates.grad.abs().max()) < 1e-9
    half = torch.full((4, 2), 0.5, requires_grad=True)
    gate_loss(full, ends(model, half), half, 0.0)[0].backward()
    assert half.grad is not None
    assert float(half.grad.abs().min()) > 1e-9


def test_a_gate_scales_one_groups_heads_only(model: Model) -> None:
    gates = torch.ones(4, 2)
    gates[1, 0] = 0.25
    batch = Batch.of_ids(IDS)
    with gating(model, gates, START, RECENT):
        mixed = run(model, batch, read=["L1.head_out"])["L1.head_out"]
    plain = run(model, batch, read=["L1.head_out"])["L1.head_out"]
    ((_, seen),) = ablated(
        model,
        batch,
        [Ablation(((1, 0), (1, 1)), "stream", start=START, recent=RECENT)],
        read=["L1.head_out"],
    )
    streams = seen["L1.head_out"]
    assert_close(mixed[:, :, :2], 0.25 * plain[:, :, :2] + 0.75 * streams[:, :, :2], atol=1e-9, rtol=0)
    assert_close(mixed[:, :, 2:], plain[:, :, 2:])


def test_layers_with_a_short_window_have_no_gate() -> None:
    model = tiny("gemma2")
    assert gated_layers(model, 1, 4) == [1, 3]
    assert gated_layers(model, 1, 3) == [0, 1, 2, 3]


def test_passkeys_stand_in_the_text_and_are_asked_for_behind_it(model: Model) -> None:
    hay = model.tokenizer.encode("o" * 400)
    found = with_passkeys(model, hay, 2, 2, (0, 1), 300)
    assert len(found.ids) == 300
    text = "".join(map(str, found.ids))
    marked = [found.ids[m + 1] for m in found.marks]
    answer = "".join(map(str, marked[: len(marked) // 2]))
    assert marked[0] == model.tokenizer.encode(" ")[0]
    assert text.count(answer) >= 1
    assert with_passkeys(model, hay, 2, 2, (0, 1), 300) == found
    with pytest.raises(BadInput, match="room for 20"):
        with_passkeys(model, hay, 2, 2, (0, 1), 20)
    with pytest.raises(BadInput, match="9 passkeys"):
        with_passkeys(model, hay, 9, 2, (0,))


def test_gates_of_a_fetching_head_stay_open_and_those_of_idle_heads_close(tmp_path: Path) -> None:
    model = planted_heads({(0, 0): "previous", (1, 0): "induction", (0, 1): "self"})
    reading = Reading(["o" * 70] * 3, tokens=1000, window=64)
    study = DuoGates(steps=30, lr=0.2, passkeys=1, words=1, start=1, recent=4)
    run_ = conduct("duo_gates", study, model, reading, tmp_path / "run", force=True)
    result = run_["duo_gates"]
    gate = result["gate"].value
    assert gate[1, 0] > 0.8
    others = [gate[0, k] for k in range(4)] + [gate[1, k] for k in (1, 2, 3)]
    assert max(others) < 0.2  # one back, itself, or nothing written: streaming changes none of it
    assert result["sensitivity"].value.argmax() == 4
    assert result["share_full"].scalar() == pytest.approx(1 / 8)
    again = conduct("duo_gates", study, model, reading, tmp_path / "run", force=True)
    np.testing.assert_array_equal(again["duo_gates"]["gate"].value, gate)


def test_the_rate_warms_up_holds_and_cools_down() -> None:
    found = [rate(step, 50) for step in range(50)]
    assert found[0] == pytest.approx(0.1)
    assert found[9:40] == [1.0] * 31
    assert found[-1] == pytest.approx(0.1)


def test_what_has_no_gates_is_refused(tmp_path: Path) -> None:
    text = Reading(["o" * 200] * 3, tokens=400, window=64)
    with pytest.raises(Refused, match="sees further back than"):
        conduct("duo_gates", DuoGates(), tiny("mamba"), text, tmp_path / "a", force=True)
    with pytest.raises(Refused, match="no causal language model"):
        conduct("duo_gates", DuoGates(), tiny("bert"), text, tmp_path / "b", force=True)


def test_passkeys_that_do_not_fit_are_refused_before_anything_runs(tmp_path: Path) -> None:
    short = Reading(["o" * 40] * 3, tokens=100, window=32)
    with (
        mock.patch.object(DuoGates, "_sensitivity", side_effect=AssertionError),
        pytest.raises(BadInput, match="there is room for 32"),
    ):
        conduct(
            "duo_gates",
            DuoGates(steps=0, start=1, recent=4),
            tiny("llama"),
            short,
            tmp_path / "a",
            force=True,
        )


def test_ends_of_documents_that_hold_no_passkey_are_left_out(tmp_path: Path) -> None:
    ends_short = Reading(["o" * 160] * 3, tokens=480, window=128)
    study = DuoGates(steps=0, passkeys=1, words=1, start=1, recent=4)
    found = conduct("duo_gates", study, tiny("llama"), ends_short, tmp_path / "a", force=True)["duo_gates"]
    assert np.isfinite(found["sensitivity"].value).all()
