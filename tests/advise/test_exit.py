"""Early exits in self-written text against caches filled by hand, and speculation by the first layers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from depthscope.advise.exit import Exits, continued, speculated, written
from depthscope.errors import BadInput, Refused
from depthscope.runtime.generate import generate
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

PROMPT = (5, 40, 17, 62, 9)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", torch.float64)


def by_hand(net: Any, prompt: tuple[int, ...], exits: Exits, tokens: int) -> tuple[list[int], list[int]]:
    """One position after the other: the inputs of every layer at every position are what a cache would be made of."""
    inner, ids = net.model, list(prompt)
    depth = len(inner.layers)
    inputs: list[list[torch.Tensor]] = [[] for _ in range(depth)]
    left: list[int] = []
    for place in range(len(prompt) + tokens - 1):
        stream, state = inner.embed_tokens.weight[ids[place]], depth
        free = place >= len(prompt)
        for layer, block in enumerate(inner.layers):
            if free and state == depth and layer >= exits.floor:
                chance = torch.softmax(net.lm_head(inner.norm(stream)), -1)
                state = layer if float(chance.max()) >= exits.confidence else depth
            inputs[layer].append(stream)
            if state == depth:
                rows = torch.stack(inputs[layer])[None]
                length = rows.shape[1]
                mask = torch.full((length, length), float("-inf"), dtype=rows.dtype).triu(1)[None, None]
                rotary = inner.rotary_emb(rows, torch.arange(length)[None])
                out = block(rows, attention_mask=mask, position_embeddings=rotary)
                stream = (out[0] if isinstance(out, tuple) else out)[0, -1]
        if place >= len(prompt) - 1:
            left.append(state)
            ids.append(int(net.lm_head(inner.norm(stream)).argmax()))
    return ids[len(prompt) :], left


@torch.no_grad()
def test_copied_states_are_what_later_tokens_find_in_the_layers_above(model: Model):
    exits = Exits(1, 0.022)
    ids, left = by_hand(model.net, PROMPT, exits, 12)
    found = written(model, PROMPT, exits, 12)
    assert len(set(left)) > 1
    assert (list(found.ids), list(found.states)) == (ids, left)
    assert written(model, PROMPT, exits, 12, copied=False).ids != found.ids


def test_never_leaving_is_plain_generation(model: Model):
    plain = generate(model, list(PROMPT), max_new_tokens=8, stop=())
    for exits in (Exits(4), Exits(1, 1.1)):
        found = written(model, PROMPT, exits, 8)
        assert found.ids == plain.ids
        assert set(found.states) == {4}


def test_always_leaving_at_one_state_is_the_truncated_model_after_the_first_token(model: Model):
    short = copy.deepcopy(model.net)
    del short.model.layers[2:]
    found = written(model, PROMPT, Exits(2), 6)
    ids = [*PROMPT, found.ids[0]]
    with torch.no_grad():
        for _ in range(5):
            ids.append(int(short(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert list(found.ids) == ids[len(PROMPT) :]
    assert found.states == (4, 2, 2, 2, 2, 2)
    assert written(model, PROMPT, Exits(2), 6, copied=False) == found


def test_the_price_of_nothing_is_nothing_and_of_leaving_is_in_the_text(model: Model):
    prompts = [PROMPT, (7, 8, 30), (50, 12, 3, 4)]
    free = continued(model, prompts, Exits(1, 1.1), 5)
    assert (free.states == 4).all()
    assert (free.agreement == 1).all()
    np.testing.assert_array_equal(free.losses["whole"], free.losses["copied"])
    np.testing.assert_array_equal(free.losses["exact"], free.losses["copied"])
    early = continued(model, prompts, Exits(1), 5)
    assert early.states.tolist() == [[4, 1, 1, 1, 1]] * 3
    assert early.losses["copied"].mean() > early.losses["whole"].mean()
    assert early.agreement.mean() < 1


def test_speculation_writes_the_same_text_and_counts_its_drafts():
    found = speculated(tiny("llama", torch.float32), PROMPT, 2, 12)
    assert found.same
    assert found.tokens == 12
    assert 0 <= found.accepted <= 1
    assert found.drafted > 0
    assert found.rounds <= 12


@pytest.mark.parametrize("family", ["gpt2", "mamba"])
def test_a_network_whose_first_layers_cannot_draft_is_refused_with_the_reason(family: str):
    model = tiny(family, torch.float32)
    with pytest.raises(Refused, match=f"cannot let the first layers of tiny-{family} draft: "):
        speculated(model, PROMPT, 2, 4)
    assert model.config.num_hidden_layers == 4, "the network is whole again"


def test_what_cannot_leave_early_is_refused(model: Model):
    with pytest.raises(Refused, match="writes no text"):
        written(tiny("bert", torch.float32), PROMPT, Exits(1))
    with pytest.raises(BadInput, match="states 0 to 4"):
        written(model, PROMPT, Exits(5))
    with pytest.raises(BadInput, match="give 1 to 3"):
        speculated(model, PROMPT, 4)
    with pytest.raises(BadInput, match="at least one of each"):
        written(model, (), Exits(1))
    with pytest.raises(BadInput, match="no prompt"):
        continued(model, [], Exits(1))
    with pytest.raises(BadInput, match="floor=0"):
        Exits(0)
