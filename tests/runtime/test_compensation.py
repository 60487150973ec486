"""What streaming heads see of the keys they dropped: exact where these are alike, and nothing without the token."""

from __future__ import annotations

import torch
from torch import nn
from torch.testing import assert_close

from depthscope.runtime.attention import Call
from depthscope.runtime.compensation import compensated, compensating
from depthscope.runtime.head_ablation import Ablation, ablated
from depthscope.runtime.model import Batch
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

IDS = torch.tensor([[5, 9, 7, 30, 9, 11, 4, 8, 2, 3, 1, 6]])
END = "L3.resid_post"


def call(key: torch.Tensor) -> Call:
    torch.manual_seed(1)
    query, value = torch.randn(2, 1, 2, 9, 4, dtype=torch.float64).unbind(0)
    return Call(nn.Identity(), query, key, value, None, {"is_causal": True})


def plain(given: Call) -> torch.Tensor:
    scores = (given.query @ given.key.mT) / 2
    ahead = torch.ones(9, 9).triu(1).bool()
    return (scores.masked_fill(ahead, float("-inf")).softmax(-1) @ given.value).transpose(1, 2)


def test_equal_keys_lose_nothing_and_different_ones_something() -> None:
    torch.manual_seed(0)
    alike = torch.randn(1, 2, 1, 4, dtype=torch.float64).expand(-1, -1, 9, -1)
    given = call(alike)
    assert_close(compensated(given, 1, 2), plain(given))
    other = call(torch.randn(1, 2, 9, 4, dtype=torch.float64))
    assert float((compensated(other, 1, 2) - plain(other)).abs().max()) > 0.01


def test_heads_that_drop_nothing_are_the_plain_ones() -> None:
    torch.manual_seed(0)
    given = call(torch.randn(1, 2, 9, 4, dtype=torch.float64))
    assert_close(compensated(given, 1, 9), plain(given))
    assert_close(compensated(given, 9, 1), plain(given))


def test_by_hand_one_query_one_dropped_pair() -> None:
    # query 3 keeps keys 0 and 3; keys 1 and 2 become their mean, counted twice
    key = torch.tensor([[[[0.0], [1.0], [3.0], [0.0]]]])
    value = torch.tensor([[[[1.0], [2.0], [4.0], [8.0]]]])
    given = Call(nn.Identity(), torch.ones(1, 1, 4, 1), key, value, None, {"is_causal": True, "scaling": 1.0})
    weight = 2 * torch.tensor(2.0).exp()
    expected = (1 + 8 + weight * 3) / (2 + weight)
    assert_close(compensated(given, 1, 1)[0, 3, 0, 0], expected)


def test_without_the_token_heads_stream_and_full_heads_are_left_alone() -> None:
    model = tiny("llama", torch.float64)
    full = torch.zeros(4, 4, dtype=torch.bool)
    full[1, :2] = True
    batch = Batch.of_ids(IDS)
    with compensating(model, full, 1, 2, token=False):
        found = run(model, batch, read=[END])[END]
    heads = tuple((layer, head) for layer in range(4) for head in range(4) if not full[layer, head])
    ((_, seen),) = ablated(model, batch, [Ablation(heads, "stream", start=1, recent=2)])
    assert_close(found, seen[END], atol=1e-6, rtol=0)
    with compensating(model, torch.ones(4, 4, dtype=torch.bool), 1, 2):
        assert_close(run(model, batch, read=[END])[END], run(model, batch, read=[END])[END])
    with compensating(model, full, 1, 2):
        kept = run(model, batch, read=[END])[END]
    intact = run(model, batch, read=[END])[END]
    assert float((kept - intact).norm()) < float((found - intact).norm())
