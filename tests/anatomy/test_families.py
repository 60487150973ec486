"""What a family says of its tiny model: kinds of layers, windows, sizes, and paths that do not exist."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from depthscope.anatomy.anatomy import resolve
from depthscope.errors import Refused, UnsupportedModel
from depthscope.registry import FAMILIES
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

A, W, S, B = "attention", "local", "ssm", "both"
KINDS = {
    "bert": [A] * 4,
    "deepseek_v3": [A] * 4,
    "dinov2": [A] * 4,
    "falcon_h1": [B] * 4,
    "gemma2": [W, A, W, A],
    "gemma3_text": [W, W, W, W, W, A, W],
    "gpt2": [A] * 4,
    "gpt_neox": [A] * 4,
    "gpt_oss": [W, A, W, A],
    "jamba": [S, A, S, S, A],
    "lfm2": [S, A, S, S, A],
    "llama": [A] * 4,
    "mamba": [S] * 4,
    "mamba2": [S] * 4,
    "mixtral": [W] * 4,
    "olmo2": [A] * 4,
    "opt": [A] * 4,
    "phi3": [W] * 4,
    "qwen3": [A, A, W, W],
    "qwen3_moe": [A] * 4,
    "qwen3_next": [S, A, S, S, A],
    "recurrent_gemma": [S, S, W, S, S, W],
    "rwkv": [S] * 4,
    "vit": [A] * 4,
    "xlstm": [S] * 4,
    "zamba2": [S] * 5,
}


@pytest.mark.parametrize("name", FAMILIES.names)
def test_each_layer_has_the_kind_that_its_configuration_asks_for(name: str) -> None:
    anatomy = tiny(name).anatomy
    assert list(anatomy.kind_of_layer) == KINDS[name]
    assert [w is not None for w in anatomy.window_of_layer] == [kind == W for kind in KINDS[name]]


@pytest.mark.parametrize("name", [name for name in FAMILIES.names if W in KINDS[name]])
def test_a_window_of_5_lets_the_last_query_see_exactly_5_keys(name: str) -> None:
    model = tiny(name)
    seen = run(model, torch.randint(3, 96, (1, 12)), read=["L0.resid_pre"], queries=torch.arange(12))
    for layer in model.anatomy.attention_layers:
        visible = (seen.pattern(layer)[0, :, -1] > 0).sum(-1)
        expected = 5 if model.anatomy.window_of_layer[layer] else 12
        assert visible.tolist() == [expected] * model.anatomy.n_heads


def test_sizes_are_read_from_the_modules_where_the_config_says_otherwise() -> None:
    deepseek = tiny("deepseek_v3").anatomy
    assert (deepseek.d_head, deepseek.n_heads, deepseek.d_mlp) == (12, 4, 64)
    gpt2 = tiny("gpt2").anatomy
    assert (gpt2.d_head, gpt2.d_mlp, gpt2.d_vocab, gpt2.n_layers) == (8, 128, 96, 4)
    gemma = tiny("gemma3_text").anatomy
    assert (gemma.d_head, gemma.n_heads, gemma.n_kv_heads) == (16, 4, 2)
    vit = tiny("vit").anatomy
    assert (vit.d_vocab, vit.has_unembedding()) == (0, False)
    assert tiny("mamba").anatomy.d_mlp == 0


def test_a_block_path_that_does_not_exist_says_what_is_there() -> None:
    family = dataclasses.replace(FAMILIES["llama"], blocks="decoder.layers")
    with pytest.raises(UnsupportedModel, match=r"decoder\.layers.*embed_tokens, layers, norm"):
        resolve(tiny("llama").net, family, "llama")


@pytest.mark.parametrize(
    ("name", "site", "reason"),
    [
        ("mamba", "L0.attn_out", "no attention"),
        ("mamba", "L0.mlp_out", "no MLP"),
        ("jamba", "L1.ssm_out", "no state-space"),
        ("jamba", "L0.head_out", "no attention"),
        ("gpt_neox", "L0.resid_mid", "parallel"),
        ("zamba2", "L1.attn_out", "no attention"),
        ("mixtral", "L0.mlp_hidden", "no last projection"),
    ],
)
def test_a_site_that_an_architecture_lacks_is_refused_with_the_reason(
    name: str, site: str, reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        tiny(name).anatomy.resolve(site)
