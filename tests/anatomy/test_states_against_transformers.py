"""States and layer skips against what transformers itself records and what a bypassed block gives."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from depthscope.runtime import edits
from depthscope.runtime.model import Model
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

BLOCKS = {
    "llama": "model.layers",
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "gemma2": "model.layers",
    "gpt_oss": "model.layers",
    "mamba": "backbone.layers",
    "jamba": "model.layers",
    "zamba2": "model.layers",
    "falcon_h1": "model.layers",
    "bert": "bert.encoder.layer",
}
IDS = torch.randint(3, 96, (2, 9), generator=torch.Generator().manual_seed(1))


def blocks_of(net: torch.nn.Module, name: str) -> torch.nn.ModuleList:
    return net.get_submodule(BLOCKS[name])  # type: ignore[return-value]


def without_cache(name: str) -> dict[str, Any]:
    return {} if name == "bert" else {"use_cache": False}


@pytest.mark.parametrize("name", BLOCKS)
def test_states_before_the_final_norm_are_those_that_transformers_records(name: str) -> None:
    model = tiny(name)
    seen = run(model, IDS, read=["L0.resid_pre", "L*.resid_post"])
    with torch.no_grad():
        own = tiny(name).net(IDS, output_hidden_states=True, **without_cache(name)).hidden_states
    # the last entry is after the final norm (BERT has none); Mamba's list begins after block 0
    own = own if name == "bert" else own[:-1]
    states = seen.states()[1 if name == "mamba" else 0 :]
    assert len(own) == model.anatomy.n_layers + (name == "bert")
    for state, expected in zip(states, own, strict=False):
        torch.testing.assert_close(state, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BLOCKS)
def test_skipping_a_layer_is_bypassing_its_block(name: str) -> None:
    model = tiny(name)
    edited = logits(model, 1, name)
    net = tiny(name).net
    container = blocks_of(net, name)[1]

    def bypass(self: torch.nn.Module, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states,) if name == "falcon_h1" else hidden_states

    container.forward = types.MethodType(bypass, container)
    with torch.no_grad():
        expected = net(IDS, **without_cache(name)).logits
        unedited = model.net(IDS, **without_cache(name)).logits
    torch.testing.assert_close(edited.to(expected), expected, rtol=1e-6, atol=1e-6)
    assert (edited - unedited).abs().max() > 1e-3


def logits(model: Model, skipped: int, name: str) -> torch.Tensor:
    last = f"L{model.anatomy.n_layers - 1}.resid_post"
    return model.head.logits(run(model, IDS, read=[last], edit=[edits.skip(skipped)])[last])


def test_skipping_a_layer_is_deleting_it_from_a_llama() -> None:
    edited = logits(tiny("llama"), 2, "llama")
    net = tiny("llama").net
    blocks = blocks_of(net, "llama")
    del blocks[2]
    net.config.num_hidden_layers = len(blocks)
    with torch.no_grad():
        expected = net(IDS, use_cache=False).logits
    torch.testing.assert_close(edited, expected, rtol=1e-12, atol=1e-12)


def test_writes_are_what_the_sublayers_add_in_gemma_and_falcon() -> None:
    """Gemma adds the output of the norm after a sublayer, Falcon-H1 its mixers times their multipliers."""
    caught: dict[str, torch.Tensor] = {}

    def catch(key: str) -> Any:
        return lambda _, __, out: caught.__setitem__(key, out[0] if isinstance(out, tuple) else out)

    gemma, falcon = tiny("gemma2").net, tiny("falcon_h1").net
    blocks_of(gemma, "gemma2")[1].post_feedforward_layernorm.register_forward_hook(catch("gemma"))
    blocks_of(falcon, "falcon_h1")[1].mamba.register_forward_hook(catch("falcon"))
    with torch.no_grad():
        gemma(IDS, use_cache=False)
        falcon(IDS, use_cache=False)
    added = run(tiny("gemma2"), IDS, read=["L1.mlp_out"])["L1.mlp_out"]
    torch.testing.assert_close(added, caught["gemma"])
    found = run(tiny("falcon_h1"), IDS, read=["L1.ssm_out"])["L1.ssm_out"]
    torch.testing.assert_close(found, 1.4 * caught["falcon"])
