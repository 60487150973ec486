"""A stretched copy: half the writes twice, a real network, and what cannot be stretched."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import Refused
from depthscope.runtime.model import Batch
from depthscope.runtime.run import run
from depthscope.runtime.stretch import stretched
from depthscope.runtime.tiny import tiny
from depthscope.runtime.verify import verify

BATCH = Batch.of_ids(torch.arange(3, 27).reshape(2, 12))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen3"])
def test_the_first_pass_writes_half_of_what_the_block_writes(family: str):
    model = tiny(family, torch.float64)
    copied = stretched(model)
    assert copied.anatomy.n_layers == 2 * model.anatomy.n_layers
    whole = run(model, BATCH, read=["L0.attn_out"])["L0.attn_out"]
    half = run(copied, BATCH, read=["L0.attn_out", "L*.resid_post"])
    torch.testing.assert_close(half["L0.attn_out"], whole / 2)
    assert bool(torch.isfinite(half["L7.resid_post"]).all())


def test_the_second_pass_is_the_same_block_on_the_new_stream():
    """By hand, with the model's own block: state 2 = state 1 + half of what block 0 writes on it."""
    model = tiny("llama", torch.float64)
    seen = run(stretched(model), BATCH, read=["L*.resid_post", "L1.attn_out"])
    net, stream = model.net.model, seen["L0.resid_post"]
    block = net.layers[0]
    rotary = net.rotary_emb(stream, torch.arange(12)[None])
    mask = torch.full((12, 12), float("-inf"), dtype=torch.float64).triu(1)[None, None]
    with torch.no_grad():
        read = block.input_layernorm(stream)
        attention = block.self_attn(read, position_embeddings=rotary, attention_mask=mask)[0] / 2
        mid = stream + attention
        expected = mid + block.mlp(block.post_attention_layernorm(mid)) / 2
    torch.testing.assert_close(seen["L1.resid_post"], expected, rtol=1e-6, atol=1e-9)


def test_the_model_stays_as_it_was_and_shares_its_other_weights():
    model = tiny("llama", torch.float64)
    before = model.net.model.layers[0].mlp.down_proj.weight.clone()
    copied = stretched(model)
    torch.testing.assert_close(model.net.model.layers[0].mlp.down_proj.weight, before, rtol=0, atol=0)
    first, second = copied.net.model.layers[:2]
    assert first.mlp.up_proj.weight is model.net.model.layers[0].mlp.up_proj.weight
    assert first.mlp.down_proj.weight is second.mlp.down_proj.weight
    assert (model.anatomy.n_layers, len(model.net.model.layers)) == (4, 4)
    assert [block.self_attn.layer_idx for block in copied.net.model.layers] == list(range(8))


def test_a_copy_keeps_every_law_and_its_lists_of_layers_are_as_long_as_it_is():
    copied = stretched(tiny("qwen3", torch.float64))
    assert [verdict.law for verdict in verify(copied) if verdict.status == "broken"] == []
    assert len(copied.config.layer_types) == copied.config.num_hidden_layers == 8


REASONS = {
    "gemma2": "behind a norm", "mamba": "is ssm", "bert": "normalises the stream", "vit": "reads image",
    "mixtral": "experts",
}  # fmt: skip


@pytest.mark.parametrize(("family", "reason"), REASONS.items())
def test_blocks_that_half_a_projection_does_not_halve_are_refused(family: str, reason: str):
    with pytest.raises(Refused, match=reason):
        stretched(tiny(family, torch.float32))


def test_a_write_that_is_not_halved_is_refused():
    """What is behind the projection here is a constant: half of the projection leaves it whole."""
    model = tiny("gpt2", torch.float64)
    for block in model.net.transformer.h:
        block.attn.resid_dropout = Plus()
    with pytest.raises(Refused, match="does not halve attn_out"):
        stretched(model)


class Plus(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1
