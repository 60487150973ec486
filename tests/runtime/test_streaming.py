"""Streaming attention against hand-made attention and against the full pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from depthscope.errors import BadInput, Refused
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.streaming import Cache, streamed
from depthscope.runtime.tiny import tiny

T = 14
IDS = torch.randint(3, 90, (2, T), generator=torch.Generator().manual_seed(5))


def decoded_by_hand(model: Model, start: int, recent: int) -> Tensor:
    """The attention of a one-layer llama, query by query, from a cache that counts positions inside itself."""
    net = model.net.model  # type: ignore[union-attr]
    block = net.layers[0]  # type: ignore[index]
    x = block.input_layernorm(net.embed_tokens(IDS))  # type: ignore[union-attr, operator]
    q, k, v = (
        part(x).unflatten(-1, (-1, 8)).transpose(1, 2)
        for part in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj)
    )
    found = []
    for t in range(T):
        kept = [j for j in range(t + 1) if j < start or t - j < recent]
        places = torch.arange(len(kept))[None]
        cos, sin = net.rotary_emb(x, places)  # type: ignore[operator]
        _, keys = apply_rotary_pos_emb(k[:, :, kept], k[:, :, kept], cos, sin)
        query, _ = apply_rotary_pos_emb(q[:, :, t : t + 1], q[:, :, t : t + 1], cos[:, -1:], sin[:, -1:])
        keys, values = (one.repeat_interleave(2, 1) for one in (keys, v[:, :, kept]))
        weights = torch.softmax(query @ keys.transpose(-1, -2) / 8**0.5, -1)
        found.append((weights @ values)[:, :, 0])
    return torch.stack(found, 1).detach()


@pytest.mark.parametrize(("start", "recent"), [(1, 4), (2, 3), (0, 4)])
def test_rolling_is_decoding_from_a_cache_that_counts_its_own_positions(start: int, recent: int):
    model = tiny("llama", num_hidden_layers=1)
    seen = streamed(model, Batch.of_ids(IDS), Cache(start, recent, rolling=True), ["L0.head_out"])
    # rotations are tables of float32
    assert_close(seen["L0.head_out"], decoded_by_hand(model, start, recent), atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "gpt_oss"])
def test_a_query_sees_first_and_recent_keys_only(name: str):
    model, batch = tiny(name), Batch.of_ids(IDS)
    changed = IDS.clone()
    changed[:, 3] = (changed[:, 3] - 2) % 80 + 4
    # layers reach back 2 each: with 4 layers key 3 is out of sight of the last position
    seen = [streamed(model, Batch.of_ids(ids), Cache(1, 3))["L-1.resid_post"] for ids in (IDS, changed)]
    assert_close(seen[0][:, 12:], seen[1][:, 12:], atol=1e-9, rtol=0)
    assert (seen[0][:, 5] - seen[1][:, 5]).abs().max() > 1e-6
    whole = run(model, batch, read=["L-1.resid_post"])["L-1.resid_post"]
    assert_close(streamed(model, batch, Cache(0, T))["L-1.resid_post"], whole, atol=1e-5, rtol=0)


def test_the_kinds_of_cache_agree_before_it_is_full_and_differ_after():
    model, batch = tiny("llama", num_hidden_layers=1), Batch.of_ids(IDS)
    mask, rolling = (streamed(model, batch, Cache(1, 4, kind))["L-1.resid_post"] for kind in (False, True))
    assert_close(mask[:, :5], rolling[:, :5], atol=1e-9, rtol=0)
    assert (mask[:, 6:] - rolling[:, 6:]).abs().max() > 1e-4


def test_what_cannot_stream_is_refused():
    with pytest.raises(Refused, match="keeps no cache"):
        streamed(tiny("bert"), Batch.of_ids(IDS), Cache(1, 4))
    with pytest.raises(Refused, match="no rotary positions"):
        streamed(tiny("gpt2"), Batch.of_ids(IDS), Cache(1, 4, rolling=True))
    with pytest.raises(Refused, match="only a part of each query is rotated"):
        streamed(tiny("deepseek_v3"), Batch.of_ids(IDS), Cache(1, 4, rolling=True))
    with pytest.raises(BadInput, match=r"recent=0 \(recent keys\) must be 1 or more"):
        Cache(1, 0)
