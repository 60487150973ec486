"""Sinks wired by hand: which heads rest on the first key, and what of it counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look
from wired_heads import planted_heads

from depthscope.analyses.attention_sinks import AttentionSinks
from depthscope.errors import BadInput, EmptyMaterial, Refused
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

T, KEPT = 20, 12
TEXTS = [f"text number {k} is made of some letters" for k in range(9)]
NATURAL, RANDOM, REPEATED = range(3)


def asked(folder: Path) -> AttentionSinks:
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"text": t}) for t in TEXTS), encoding="utf-8")
    return AttentionSinks(source=str(file), texts=9, controls=3, length=T)


def read(model: Model, folder: Path) -> Result:
    return look(model, asked(folder), folder, TEXTS)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    heads = {(0, 0): "first", (0, 1): "first", (1, 0): "first", (0, 2): "previous", (1, 1): "self"}
    return read(planted_heads(heads), tmp_path_factory.mktemp("sinks"))


def test_the_first_key_gets_what_the_wired_heads_give_it(result: Result):
    i = np.arange(T)
    everywhere, self_only, previous = (1 / (i + 1)).mean(), 1 / T, 2 / T
    expected = [[1, 1, previous, everywhere], [1, self_only, everywhere, everywhere]]
    np.testing.assert_allclose(result["first_share"].value, expected, atol=1e-9)
    np.testing.assert_allclose(result["learned_sink"].value, 0, atol=1e-9)


def test_the_sink_share_is_a_share_of_heads_by_key_and_by_layer(result: Result):
    shares = result["sink_share"].value
    assert shares.shape == (3, 2, 2, KEPT)
    # positions alone decide in this model: all texts are alike, with a start token and without
    np.testing.assert_allclose(shares[..., 0], 3 / 8)
    np.testing.assert_allclose(shares[..., 1:], 0)
    np.testing.assert_allclose(result["sink_by_layer"].value[0, 0], [[2 / 4, 1 / 4]] * 2)
    assert (result["sink_keys"].value == 1).all()
    assert result["sink_share"].n is not None
    assert result["sink_share"].n[:, 0, 0, 0].tolist() == [9, 3, 3]


def test_the_mass_on_the_sink_set_is_plain_and_weighted_by_what_values_weigh(result: Result):
    i = np.arange(1, T)
    everywhere = (1 / (i + 1)).mean()
    previous, own = 1 / (T - 1), 0.0
    plain = [(2 + previous + everywhere) / 4, (1 + own + 2 * everywhere) / 4]
    np.testing.assert_allclose(result["sink_mass"].value[NATURAL, 0], plain, atol=1e-9)
    # only the previous-token head of layer 0 writes, every token alike; no head of layer 1 writes anything
    np.testing.assert_allclose(result["sink_mass_weighted"].value[NATURAL, 0], [previous, np.nan], atol=1e-9)


def test_sinks_are_listed_with_their_tokens(result: Result):
    sinks = result.findings.examples["sinks"].columns
    assert set(sinks["position"]) == {0}
    starts = sinks["token"][(sinks["mode"] == "start") & (sinks["source"] == "natural")]
    assert set(starts) == {chr(33 + 1)}  # the plain tokenizer's BOS is id 1
    assert set(sinks["token"][(sinks["mode"] == "none") & (sinks["source"] == "natural")]) == {
        chr(33 + 3 + ord("t") % 61)
    }


def test_a_learned_sink_takes_what_no_key_gets(tmp_path: Path):
    model = tiny("gpt_oss")
    with torch.no_grad():
        for layer in model.anatomy.layers:
            assert layer.attn is not None
            for part in (layer.attn.module.q_proj, layer.attn.module.k_proj):
                for parameter in part.parameters():  # type: ignore[union-attr]
                    parameter.zero_()
            layer.attn.module.sinks.zero_()  # type: ignore[union-attr, operator]
    found = read(model, tmp_path)
    full = model.anatomy.window_of_layer.index(None)
    i = np.arange(1, T)
    np.testing.assert_allclose(found["learned_sink"].value[:, :, full], (1 / (i + 2)).mean(), atol=1e-6)


def test_layers_without_heads_are_missing_and_models_without_any_are_refused(tmp_path: Path):
    model = tiny("jamba", torch.float32)
    found = read(model, tmp_path)
    has = [x.attn is not None for x in model.anatomy.layers]
    np.testing.assert_array_equal(np.isfinite(found["first_share"].value).all(1), has)
    with pytest.raises(Refused, match="no layer has softmax attention heads"):
        read(tiny("mamba"), tmp_path / "mamba" if (tmp_path / "mamba").mkdir() is None else tmp_path)


def test_texts_that_are_too_short_and_levels_that_mean_nothing_are_refused(tmp_path: Path):
    with pytest.raises(
        BadInput,
        match=r"levels=\(0\.0,\) \(mean attention\) must be one number or more, each above 0 and below 1",
    ):
        AttentionSinks(levels=(0.0,))
    with pytest.raises(BadInput, match=r"length=8 \(tokens, the last 8 left out\) must be 12 or more"):
        AttentionSinks(length=8)
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(EmptyMaterial, match="no text of 20 tokens"):
        look(planted_heads({}), AttentionSinks(source=str(short), length=T), tmp_path, TEXTS)
