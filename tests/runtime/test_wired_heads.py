"""The planted heads do what their page says: every row known by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from wired_heads import planted_heads, text_of

from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

N = 12
IDS = [4, 9, 7, 30, 9, 11, 5, 9, 12, 13, 7, 14]


def rows(model: Model, layer: int, head: int) -> torch.Tensor:
    return run(model, Batch.of_ids([IDS]), queries=torch.arange(N)).pattern(layer)[0, head]


@pytest.fixture(scope="module")
def model() -> Model:
    return planted_heads(
        {(0, 0): "previous", (0, 1): "first", (0, 2): "self", (1, 0): "induction", (1, 1): "duplicate"}
    )


def expected(choose: Callable[[int], list[int]]) -> torch.Tensor:
    found = torch.zeros(N, N, dtype=torch.float64)
    for i in range(N):
        keys = choose(i)
        found[i, keys] = 1 / len(keys)
    return found


def test_positional_heads_look_one_back_at_the_first_at_themselves_and_everywhere(model: Model):
    everywhere = expected(lambda i: list(range(i + 1)))
    # position 0 has nothing before it: all its scores are 0 and it sees itself
    assert_close(rows(model, 0, 0), expected(lambda i: [max(i - 1, 0)]), atol=1e-9, rtol=0)
    assert_close(rows(model, 0, 1), expected(lambda _: [0]), atol=1e-9, rtol=0)
    assert_close(rows(model, 0, 2), expected(lambda i: [i]), atol=1e-9, rtol=0)
    assert_close(rows(model, 0, 3), everywhere, atol=1e-9, rtol=0)


def test_an_induction_head_looks_behind_earlier_copies_and_rests_on_the_first_token(model: Model):
    behind = lambda i: [j + 1 for j in range(i) if IDS[j] == IDS[i]] or [0]  # noqa: E731
    assert_close(rows(model, 1, 0), expected(behind), atol=1e-9, rtol=0)
    assert_close(
        rows(model, 1, 1),
        expected(lambda i: [j for j in range(i + 1) if IDS[j] == IDS[i]]),
        atol=1e-9,
        rtol=0,
    )


def test_the_pair_predicts_what_followed(model: Model):
    end = model.net(torch.tensor([IDS[:8]])).logits[0, -1]  # type: ignore[operator]
    # 4 9 7 ... 9 11 5 9: earlier copies of 9 were followed by 7 and by 11
    np.testing.assert_allclose(end.detach()[[7, 11, 12]].tolist(), [5.0, 5.0, 0.0], atol=1e-6)


def test_text_of_gives_back_ids(model: Model):
    assert model.tokenizer.encode(text_of(IDS)) == IDS
