"""A patched last position goes on as the model itself would, by keys and values or over whole prompts."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput, Refused
from depthscope.registry import FAMILIES
from depthscope.runtime.patch import last_states, patched_ends
from depthscope.runtime.prefix import keeps_only_keys
from depthscope.runtime.tiny import tiny

TARGET, DONOR = list(range(3, 15)), [9, 4, 4, 30, 7, 21, 14]
CAUSAL = [n for n in FAMILIES.names if FAMILIES[n].reads == "tokens" and FAMILIES[n].causal]
ATTENTION = [n for n in CAUSAL if keeps_only_keys(tiny(n).anatomy)]


def donor_of(model):
    return last_states(model, torch.tensor([DONOR]))[0]


@pytest.mark.parametrize("family", CAUSAL)
def test_own_states_change_nothing_and_the_donors_last_state_is_taken_as_it_is(family: str):
    model = tiny(family)
    own = last_states(model, torch.tensor([TARGET]))[0]
    ends = patched_ends(model, TARGET, own)
    torch.testing.assert_close(ends, own[-1:].expand_as(ends), rtol=1e-6, atol=1e-6)
    donor = donor_of(model)
    torch.testing.assert_close(patched_ends(model, TARGET, donor)[-1], donor[-1], rtol=0, atol=0)


@pytest.mark.parametrize("family", ATTENTION)
def test_keys_and_values_give_what_whole_prompts_give(family: str):
    model = tiny(family)
    donor = donor_of(model)
    cheap, whole = (patched_ends(model, TARGET, donor, by_cache=way) for way in (True, False))
    torch.testing.assert_close(cheap, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", range(4))
def test_a_patch_is_what_a_plain_hook_of_torch_does(layer: int):
    model = tiny("llama")
    donor = donor_of(model)

    def put(module, args, kwargs):
        stream = args[0].clone()
        stream[:, -1] = donor[layer]
        return (stream, *args[1:]), kwargs

    found = {}
    blocks = model.net.model.layers
    handles = [
        blocks[layer].register_forward_pre_hook(put, with_kwargs=True),
        blocks[-1].register_forward_hook(
            lambda _module, _args, out: found.update(end=out[0] if isinstance(out, tuple) else out)
        ),
    ]
    with torch.no_grad():
        model.net(torch.tensor([TARGET]), use_cache=False)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(
        patched_ends(model, TARGET, donor)[layer], found["end"][0, -1], rtol=1e-9, atol=1e-9
    )


def test_what_cannot_be_patched_is_refused():
    with pytest.raises(Refused, match="no causal language model"):
        patched_ends(tiny("bert"), TARGET, torch.zeros(3, 32))
    with pytest.raises(Refused, match="layers without keys and values"):
        patched_ends(tiny("mamba"), TARGET, donor_of(tiny("mamba")), by_cache=True)
    with pytest.raises(BadInput, match="a prompt of 2 tokens and 5 states, got 1 and 5"):
        patched_ends(tiny("llama"), TARGET[:1], donor_of(tiny("llama")))
