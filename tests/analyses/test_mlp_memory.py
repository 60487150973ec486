"""MLP memory: a planted pair of key and value is found, and plain sorting gives the same contexts and words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look, rising, silent_gpt2, value

from depthscope.analyses.mlp_memory import MlpMemory
from depthscope.engine.tally import Top
from depthscope.errors import BadInput, Refused
from depthscope.registry import FAMILIES
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import assembled, tiny

V, ASKED, SAID = 64, 20, 30


def remembering() -> Model:
    """A gpt2 whose layer 1 holds one memory: neuron 5 waits for token ASKED and says token SAID; the rest is silent."""
    net = silent_gpt2(8)
    with torch.no_grad():
        mlp = net.transformer.h[1].mlp
        mlp.c_fc.weight[ASKED, 5], mlp.c_proj.weight[5, SAID], mlp.c_proj.weight[5, V + SAID] = 1.0, 9.0, -9.0
    return assembled(net, FAMILIES["gpt2"], "gpt2")


def test_the_planted_memory_waits_for_its_token_and_says_its_word(tmp_path: Path):
    found = look(remembering(), MlpMemory((1,), 8, 3), tmp_path, rising(length=24))
    table = found.findings.examples["memories"].columns
    assert (table["layer"][0], table["neuron"][0], table["sign"][0]) == (1, 5, "positive")
    assert table["probability"][0] == pytest.approx(1, abs=1e-6)
    assert table["says"][0].split(" | ")[0] == remembering().tokenizer.decode([SAID])
    # its contexts all end in the token that it waits for, so their entropy is 0; the tokens rise, so ASKED + 1 follows
    assert value(found, "agreement")[0, 0] <= 7 / 8
    assert all(
        text.endswith(remembering().tokenizer.decode([ASKED])) for text in table["contexts"][0].split(" // ")
    )


def test_a_memory_that_says_what_follows_agrees_with_the_text(tmp_path: Path):
    model = remembering()
    proj = model.net.transformer.h[1].mlp.c_proj  # type: ignore[union-attr, index]
    with torch.no_grad():
        proj.weight[5] = 0
        proj.weight[5, ASKED + 1], proj.weight[5, V + ASKED + 1] = 9.0, -9.0
    silent = look(remembering(), MlpMemory((1,), 8, 3), tmp_path / "other", rising(length=24))
    found = look(model, MlpMemory((1,), 8, 3), tmp_path / "this", rising(length=24))
    # one of eight neurons now says what follows; what the seven silent ones say is the lowest id
    assert value(found, "agreement")[0, 0] == value(silent, "agreement")[0, 0] + 1 / 8


def test_contexts_words_and_shares_are_those_of_plain_sorting(tmp_path: Path):
    model, texts = tiny("llama"), rising(3, 16)
    found = look(model, MlpMemory((2,), 64, 2), tmp_path, texts, window=16)
    net = model.net
    kept: list[torch.Tensor] = []
    handle = net.model.layers[2].mlp.down_proj.register_forward_pre_hook(
        lambda _, args: kept.append(args[0][0])
    )  # type: ignore[union-attr, operator]
    ids = [model.tokenizer.encode(text) for text in texts]
    with torch.no_grad():
        for row in ids:
            net(torch.tensor([row]))
    handle.remove()
    hidden = torch.stack(kept)
    usable = hidden[:, 1:-1]
    first = usable.flatten(0, 1).argmax(0).numpy()
    follows = np.array([row[2:] for row in ids]).ravel()[first]
    decoded = (net.model.layers[2].mlp.down_proj.weight.T * net.model.norm.weight) @ net.lm_head.weight.T  # type: ignore[union-attr, operator]
    agrees = (decoded.argmax(-1).numpy() == follows).mean()
    assert value(found, "agreement")[0, 0] == pytest.approx(agrees)
    likely = torch.softmax(decoded.detach(), -1).amax(-1).mean()
    assert value(found, "value_probability")[0, 0] == pytest.approx(float(likely), rel=1e-4)
    size = hidden[:, 1:].abs()
    active = (size > 0.1 * size.amax(-1, keepdim=True)).double().mean()
    assert value(found, "active_share")[0] == pytest.approx(float(active))


def test_the_largest_of_two_parts_are_those_of_all_and_equal_ones_keep_the_earlier_place():
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 5, size=(2, 9)).astype(float)
    place = np.broadcast_to(np.arange(9)[:, None], (2, 9, 1))
    text = np.broadcast_to(np.array([f"t{k}" for k in range(9)]), (2, 9))
    parts = [
        Top(*(x[:, part] for x in (whole, place, text))) for part in (slice(4, 8), slice(0, 4), slice(8, 9))
    ]
    padded = Top(np.full((2, 4), -np.inf), np.full((2, 4, 1), -1), np.full((2, 4), ""))
    for order in ((0, 1), (1, 0)):
        joined = parts[order[0]].add(parts[order[1]]).add(parts[2]).add(padded)
        best = np.argsort(-whole, axis=1, kind="stable")[:, :4]
        np.testing.assert_array_equal(joined.place[..., 0], best)
        np.testing.assert_array_equal(joined.text, np.take_along_axis(text, best, 1))


def test_models_without_memories_and_wrong_layers_are_refused():
    with pytest.raises(Refused, match="no one last projection whose columns could be memories"):
        MlpMemory().needs(tiny("mixtral").anatomy)
    with pytest.raises(BadInput, match=r"layers \[9\] of llama have no MLP"):
        MlpMemory((9,)).needs(tiny("llama").anatomy)
    with pytest.raises(BadInput, match="neurons=1"):
        MlpMemory(neurons=1)
