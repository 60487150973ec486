"""Looped networks: every step is a layer, weights are shared, the function is that of running the blocks in order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused
from depthscope.runtime.generate import generate
from depthscope.runtime.tiny import tiny
from depthscope.runtime.unrolled import looped, passes, unrolled
from depthscope.runtime.verify import verify

IDS = torch.tensor([[3, 9, 4, 1, 7, 5, 11, 2, 6, 8, 10, 12]])
STEPS = (0, 1, 2, 1, 2, 3)


def by_hand(net: Any, ids: Tensor, steps: tuple[int, ...]) -> Tensor:
    """Logits of a llama whose own blocks are called one after the other."""
    with torch.no_grad():
        x = net.model.embed_tokens(ids)
        places = torch.arange(ids.shape[1])[None]
        rotary = net.model.rotary_emb(x, places)
        low = torch.full((ids.shape[1], ids.shape[1]), float("-inf"), dtype=x.dtype).triu(1)[None, None]
        for k in steps:
            out = net.model.layers[k](x, attention_mask=low, position_ids=places, position_embeddings=rotary)
            x = out[0] if isinstance(out, tuple) else out
        return net.lm_head(net.model.norm(x))


def test_steps_and_passes_are_listed() -> None:
    assert looped(4, 1, 2, 2) == STEPS
    assert looped(3, 0, 2, 1) == (0, 1, 2)
    assert passes(STEPS) == ((0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (3, 0))


@pytest.mark.parametrize("steps", [STEPS, (3, 0), (2, 2, 2)])
def test_the_function_is_that_of_the_blocks_in_this_order(steps: tuple[int, ...]) -> None:
    model = tiny("llama", torch.float64)
    with torch.no_grad():
        got = unrolled(model, steps).net(IDS).logits
    torch.testing.assert_close(got, by_hand(model.net, IDS, steps), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gemma2", "lfm2"])
def test_an_unrolled_network_is_a_real_one_with_all_laws_and_a_slot_of_the_cache_for_each_step(
    family: str,
) -> None:
    model = unrolled(tiny(family), (0, 1, 1, 2))
    assert model.anatomy.n_layers == 4
    assert [law.law for law in verify(model) if law.status == "broken"] == []
    first, second = (
        generate(model, IDS[0], max_new_tokens=6, use_cache=cache, stop=()).ids for cache in (True, False)
    )
    assert first == second


def test_passes_of_a_block_share_their_weights_and_the_model_stays_as_it_was() -> None:
    model = tiny("llama")
    before = model.net.state_dict()
    found = unrolled(model, STEPS)
    layers: Any = found.net.model.layers  # type: ignore[union-attr]
    assert layers[1].mlp.down_proj.weight is layers[3].mlp.down_proj.weight
    assert layers[1].mlp.down_proj.weight is model.net.model.layers[1].mlp.down_proj.weight  # type: ignore[union-attr]
    assert [layer.self_attn.layer_idx for layer in layers] == list(range(6))
    assert model.anatomy.n_layers == 4
    assert model.net.state_dict().keys() == before.keys()
    assert found.provenance["steps"] == list(STEPS)
    assert found.provenance["weights_hash"] is None


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("rwkv", "its first block holds the norm"),
        ("zamba2", "numbered by its calls"),
        ("vit", "it reads image"),
        ("jamba", "derives layer_types from a rule that cannot say steps 0 1 1"),
    ],
)
def test_networks_whose_blocks_cannot_move_are_refused_with_the_reason(family: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        unrolled(tiny(family), (0, 1, 1))


def test_a_block_that_does_not_exist_is_named() -> None:
    with pytest.raises(BadInput, match=r"name blocks \[7\]; tiny-llama has 0 to 3"):
        unrolled(tiny("llama"), (0, 7))
    with pytest.raises(BadInput, match="name blocks not at all"):
        unrolled(tiny("llama"), ())
    with pytest.raises(BadInput, match="give blocks of 0 to 3"):
        looped(4, 2, 1, 2)
