"""Texts continued under vectors: from a prompt read once they are what whole texts read anew at each step give."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput, Refused
from depthscope.runtime.continued import continued
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

IDS = [5, 9, 7, 30, 11]


def pushed(model: Model) -> list[torch.Tensor | None]:
    draw = torch.Generator().manual_seed(3)
    width = model.anatomy.d_model
    return [*(size * torch.randn(width, dtype=torch.float64, generator=draw) for size in (5, 30)), None]


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_from_a_prefix_the_texts_are_those_read_anew_at_each_step(family: str):
    model = tiny(family)
    wrote = set[str]()
    for state in (0, 2, model.anatomy.n_layers):
        found, whole = (continued(model, IDS, state, pushed(model), 4, by_cache=way) for way in (True, False))
        assert found == whole
        wrote |= set(found)
    assert len(wrote) >= 3, "vectors change what is written"


def test_a_row_ends_at_its_own_end_of_text_and_the_others_go_on():
    model = tiny("llama")
    free = continued(model, IDS, 1, pushed(model), 4)
    end = 40
    toward = 1e3 * model.net.lm_head.weight[end].detach()  # type: ignore[union-attr, index]
    model.net.generation_config.eos_token_id = end  # type: ignore[union-attr]
    assert continued(model, IDS, model.anatomy.n_layers, [toward, None], 4) == ["", free[-1]]


def test_encoders_long_texts_and_caches_that_say_too_little_are_refused():
    model = tiny("llama")
    with pytest.raises(Refused, match="continues no text"):
        continued(tiny("bert"), IDS, 1, [None], 2)
    with pytest.raises(Refused, match="without keys and values"):
        continued(tiny("mamba"), IDS, 1, [None], 2, by_cache=True)
    with pytest.raises(BadInput, match="do not fit"):
        continued(model, IDS, 1, [None], 10**6)
