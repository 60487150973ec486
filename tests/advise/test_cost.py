"""Measured cost: counts by hand, speeds that a slower model does not have."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from depthscope.advise import cost
from depthscope.advise.cost import Cost, measured
from depthscope.errors import BadInput, Refused
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

QUICK: dict[str, Any] = {"prompt": 6, "new": 3, "batches": (1, 2), "warmup": 0, "repeats": 2}


def test_parameters_bytes_and_cache_are_counted_by_hand():
    found = measured(tiny("llama", torch.float32), **QUICK)
    # d 32, 4 heads of 8, 2 of keys: q 1024, k 512, v 512, o 1024; MLP 3 x 32 x 64; two norms of 32
    block = 1024 + 512 + 512 + 1024 + 3 * 32 * 64 + 64
    assert found.parameters == 4 * block + 2 * 96 * 32 + 32
    assert found.embedding_share == 2 * 96 * 32 / found.parameters
    assert found.bytes == 4 * found.parameters
    assert (found.kv_bytes, found.state_bytes) == (
        4 * 2 * 2 * 8 * 4,
        0,
    )  # layers, K and V, heads, d_head, bytes
    assert [s.batch for s in found.speed] == [1, 2]
    assert Cost.of(found.as_dict()) == found


def test_a_recurrent_state_does_not_grow():
    found = measured(tiny("mamba", torch.float32), **QUICK)
    assert found.kv_bytes == 0
    assert found.state_bytes > 0


def test_what_takes_longer_is_measured_as_slower():
    model = tiny("llama", torch.float32)
    quick = measured(model, **QUICK)
    hook = model.anatomy.layers[0].block.register_forward_hook(lambda *_: time.sleep(0.05))
    slow = measured(model, **QUICK)
    hook.remove()
    # each step waits 50 ms: 20 tokens a second at most for one row, 40 for two
    assert [s.decode for s in slow.speed] < [20.0, 40.0]
    assert slow.speed[0].prefill < 6 / 0.05
    assert quick.speed[0].decode > slow.speed[0].decode
    assert slow.speed[0].decode_range[0] <= slow.speed[0].decode <= slow.speed[0].decode_range[1]


def test_models_are_timed_in_turns_so_that_a_machine_that_slows_down_favours_none(
    monkeypatch: pytest.MonkeyPatch,
):
    first, second = tiny("llama", torch.float32), tiny("llama", torch.float32, num_hidden_layers=2)
    asked: list[int] = []

    def slower_and_slower(model: Model, ids: Tensor, new: int) -> tuple[float, float]:
        del ids, new
        asked.append(model.anatomy.n_layers)
        return (1.0 * len(asked), 2.0 * len(asked))

    monkeypatch.setattr(cost, "_times", slower_and_slower)
    both = cost.measured_in_turns((first, second), prompt=6, new=2, batches=(1,), warmup=1, repeats=10)
    assert asked == [4, 2] * 11
    before, after = (one.speed[0].decode for one in both)
    assert 0.9 < after / before < 1.0  # one after the other it would be a third


def test_a_prompt_is_shortened_to_the_positions_that_a_model_has_learnt():
    few = {**QUICK, "prompt": 100, "new": 4, "batches": (1,)}
    assert measured(tiny("gpt2", torch.float32, n_positions=40), **few).prompt == 24
    with pytest.raises(BadInput, match="40 tokens to write are more than a model has positions"):
        measured(tiny("gpt2", torch.float32, n_positions=40), **{**few, "new": 40})


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(Refused, match="writes nothing"):
        measured(tiny("vit"))
    with pytest.raises(BadInput, match="1 or more"):
        measured(tiny("llama"), repeats=0)


def test_measuring_leaves_the_generation_settings_as_they_were():
    model = tiny("llama", torch.float32)
    own = cast(Any, model.net).generation_config
    measured(model, **QUICK)
    assert cast(Any, model.net).generation_config is own
