"""Configurations of fewer layers, by hand: counts, lists, indices, rules, and what cannot be said."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import (
    DeepseekV3Config,
    Gemma3TextConfig,
    GPT2Config,
    JambaConfig,
    LlamaConfig,
    MiniCPM3Config,
    Qwen2Config,
    Qwen3MoeConfig,
    RecurrentGemmaConfig,
    SmolLM3Config,
    Zamba2Config,
)

from depthscope.advise.layer_config import reduced
from depthscope.errors import Refused


def left(config: Any, *removed: int) -> Any:
    depth = config.num_hidden_layers
    return reduced(config, [k for k in range(depth) if k not in removed], depth)


def test_counts_go_under_every_name_and_the_original_stays():
    config = GPT2Config(n_layer=6)
    assert left(config, 2, 3).n_layer == left(config, 2, 3).num_hidden_layers == 4
    assert config.n_layer == 6


def test_lists_of_layers_keep_their_own_entries():
    config = Gemma3TextConfig(num_hidden_layers=7)
    assert left(config, 1, 6).layer_types == [config.layer_types[k] for k in (0, 2, 3, 4, 5)]
    ropes = SmolLM3Config(num_hidden_layers=8)
    assert left(ropes, 0).no_rope_layers == ropes.no_rope_layers[1:]


def test_numbers_of_layers_are_numbered_again():
    config = Qwen3MoeConfig(num_hidden_layers=6, mlp_only_layers=[1, 4], decoder_sparse_step=2)
    # dense: 1 and 4 by name, 0 and 2 and 4 by the step; left are 0, 2, 3, 4
    found = left(config, 1, 5)
    assert (found.decoder_sparse_step, found.mlp_only_layers) == (1, [0, 1, 3])


def test_first_layers_are_counted_again():
    assert (
        left(DeepseekV3Config(num_hidden_layers=6, first_k_dense_replace=3), 1, 4).first_k_dense_replace == 2
    )
    windowed = Qwen2Config(num_hidden_layers=6, use_sliding_window=True, max_window_layers=4)
    found = left(windowed, 0, 5)
    assert found.max_window_layers == 3
    assert found.layer_types == ["full_attention"] * 3 + ["sliding_attention"]


def test_a_periodic_rule_is_found_again_or_refused():
    config = JambaConfig(num_hidden_layers=8, attn_layer_period=4, attn_layer_offset=1, expert_layer_period=1,
                         expert_layer_offset=0)  # fmt: skip
    found = left(config, 0, 4)  # attention was at 1 and 5, is at 0 and 3
    assert (found.attn_layer_period, found.attn_layer_offset) == (3, 0)
    assert left(config, 1, 5).layers_block_type == ["mamba"] * 6
    with pytest.raises(Refused, match=r"no such rule gives layers \[1, 3\] of the 6"):
        left(config, 2, 3)


def test_a_pattern_becomes_the_list_it_stood_for():
    config = RecurrentGemmaConfig(num_hidden_layers=7)
    kinds = config.layers_block_type
    assert left(config, 0, 3).layers_block_type == [kinds[k] for k in (1, 2, 4, 5, 6)]


def test_a_scale_by_depth_is_made_up_for():
    found = left(MiniCPM3Config(num_hidden_layers=4, scale_depth=1.4), 1, 2)
    assert found.scale_depth / 2**0.5 == pytest.approx(1.4 / 4**0.5)


def test_the_note_of_a_quantisation_goes():
    config = LlamaConfig(num_hidden_layers=4)
    config.quantization_config = {"bits": 4}
    assert not hasattr(left(config, 1), "quantization_config")


def test_what_a_rule_cannot_say_is_refused_with_the_reason():
    shared = LlamaConfig(num_hidden_layers=4, num_kv_shared_layers=2)
    with pytest.raises(Refused, match="shares keys and values between layers"):
        left(shared, 1)
    zamba = Zamba2Config(num_hidden_layers=4, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"])
    assert left(zamba, 0).hybrid_layer_ids == [0, 2]
    with pytest.raises(Refused, match=r"layers \[1\] of zamba2 call the shared transformer"):
        left(zamba, 1)
    every = LlamaConfig(num_hidden_layers=4, moe_layer_freq=2)
    with pytest.raises(Refused, match="by moe_layer_freq = 2 and has no list 'mlp_layer_types'"):
        left(every, 1)
    scaled = LlamaConfig(num_hidden_layers=4, scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(Refused, match="only for gpt2"):
        left(scaled, 1)
