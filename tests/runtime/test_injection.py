"""Vectors added at the last position: one token behind kept keys and values gives what whole edited passes give."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput, Refused
from depthscope.runtime import edits
from depthscope.runtime.injection import injected_ends
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

IDS = [5, 9, 7, 30, 11]


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "mamba"])
def test_an_injected_vector_gives_the_end_of_a_whole_pass_under_an_edit_at_every_state(family: str):
    model = tiny(family)
    depth, width = model.anatomy.n_layers, model.anatomy.d_model
    vectors = torch.randn(depth + 2, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    states = [depth, *range(depth), 1]
    found = injected_ends(model, IDS, states, vectors)
    last = torch.zeros(len(IDS), dtype=torch.bool)
    last[-1] = True
    end = f"L{depth - 1}.resid_post"
    for k, s in enumerate(states):
        site = f"L{s - 1}.resid_post" if s else "L0.resid_pre"
        whole = run(model, torch.tensor([IDS]), read=[end], edit=[edits.add(site, vectors[k], at=last)])
        torch.testing.assert_close(found[k], whole[end][0, -1], rtol=1e-6, atol=1e-6)


def test_both_ways_agree_and_more_injections_than_fit_one_step_keep_their_order():
    model = tiny("llama")
    count, depth = 70, model.anatomy.n_layers
    vectors = torch.randn(count, model.anatomy.d_model, dtype=torch.float64)
    states = [(7 * k) % (depth + 1) for k in range(count)]
    ways = [injected_ends(model, IDS, states, vectors, by_cache=way) for way in (True, False)]
    torch.testing.assert_close(*ways, rtol=1e-8, atol=1e-8)


def test_encoders_short_prompts_and_states_that_do_not_exist_are_refused():
    model, one = tiny("llama"), torch.zeros(1, 32, dtype=torch.float64)
    with pytest.raises(Refused, match="no causal language model"):
        injected_ends(tiny("bert"), IDS, [1], one)
    with pytest.raises(Refused, match="without keys and values"):
        injected_ends(tiny("mamba"), IDS, [1], one, by_cache=True)
    with pytest.raises(BadInput, match=r"1 tokens, 1 vectors and the states \[1\]"):
        injected_ends(model, IDS[:1], [1], one)
    with pytest.raises(BadInput, match=r"states \[9\]"):
        injected_ends(model, IDS, [9], one)
