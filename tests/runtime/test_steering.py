"""Steering by components: what a change of nothing leaves, and what each change puts in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from depthscope.errors import BadInput
from depthscope.runtime.generate import generate
from depthscope.runtime.run import run
from depthscope.runtime.steering import (
    Along,
    Both,
    Expect,
    Follower,
    Level,
    Move,
    Pieces,
    Renew,
    Scale,
    Stretch,
    random_directions,
    steered,
    steering,
    taken_apart,
)
from depthscope.runtime.tiny import tiny

TEXT = [5, 9, 3, 17, 8, 30, 12, 5, 7, 21, 4, 4]


class Average(nn.Module):
    """Expects a rotation of the mean of all rows so far: strictly causal, with a running sum as its cache."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.turn = nn.Linear(width, width)

    def forward(self, stream: Tensor) -> Tensor:
        count = torch.arange(1, stream.shape[1] + 1)[None, :, None]
        return self.turn(stream.cumsum(1) / count)

    def step(self, new: Tensor, cache: Any) -> tuple[Tensor, Any]:
        total, count = cache or (torch.zeros_like(new[:, :1]), 0)
        sums = total + new.cumsum(1)
        counts = count + torch.arange(1, new.shape[1] + 1)[None, :, None]
        return self.turn(sums / counts), (sums[:, -1:], count + new.shape[1])


def _model(family: str = "llama") -> Any:
    return tiny(family, torch.float32)


def _pieces(model: Any, state: int = 1) -> tuple[Average, Tensor, Pieces]:
    predictor = Average(model.anatomy.d_model)
    stream = run(model, torch.tensor([TEXT]), read=[f"L{state - 1}.resid_post"])[f"L{state - 1}.resid_post"]
    return predictor, stream, taken_apart(predictor, stream)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_change_of_nothing_gives_the_models_logits_bit_for_bit(family: str) -> None:
    model = _model(family)
    predictor = Average(model.anatomy.d_model)
    ids = torch.tensor([TEXT])
    plain = model.net(input_ids=ids).logits
    for state in range(model.anatomy.n_layers + 1):
        edit = steering(predictor, state, Scale(0.0, 0.0), model.anatomy)
        last = run(model, ids, read=["final"], edit=[edit])["final"]
        torch.testing.assert_close(model.net.get_output_embeddings()(last), plain, rtol=0, atol=0)
        moved = steering(predictor, state, Scale(0.0, 0.5), model.anatomy)
        other = run(model, ids, read=["final"], edit=[moved])["final"]
        assert (model.net.get_output_embeddings()(other) != plain).any()


@pytest.mark.parametrize("cached", [True, False])
def test_a_change_of_nothing_writes_the_same_text_bit_for_bit(cached: bool) -> None:
    model = _model()
    edit = steering(Average(model.anatomy.d_model), 2, Scale(0.0, 0.0), model.anatomy)
    plain = generate(model, TEXT, max_new_tokens=8, stop=(), use_cache=cached)
    same = generate(model, TEXT, max_new_tokens=8, stop=(), use_cache=cached, edit=[edit])
    assert same.ids == plain.ids
    assert same.logprobs == plain.logprobs


def test_the_predictors_own_cache_writes_what_reading_everything_again_writes() -> None:
    model = _model()
    predictor, change = Average(model.anatomy.d_model), Scale(-0.7, 1.5)
    texts = [
        generate(
            model, TEXT, max_new_tokens=10, stop=(), use_cache=cached,
            edit=[steering(predictor, 1, change, model.anatomy)],
        )
        for cached in (True, False)
    ]  # fmt: skip
    assert texts[0].ids == texts[1].ids
    torch.testing.assert_close(
        torch.tensor(texts[0].logprobs), torch.tensor(texts[1].logprobs), rtol=1e-4, atol=1e-4
    )
    plain = generate(model, TEXT, max_new_tokens=10, stop=())
    assert plain.logprobs != texts[0].logprobs


def test_a_follower_takes_apart_token_by_token_what_is_taken_apart_at_once() -> None:
    predictor, stream, whole = _pieces(_model())
    follower = Follower(predictor)
    parts = [follower(stream[:, :7]), *(follower(stream[:, t : t + 1]) for t in range(7, len(TEXT)))]
    assert [part.start for part in parts] == [0, 7, 8, 9, 10, 11]
    torch.testing.assert_close(torch.cat([part.expected for part in parts], 1), whole.expected)
    again = follower(stream)
    torch.testing.assert_close(again.expected, whole.expected)


def test_what_is_expected_of_a_token_does_not_see_it() -> None:
    predictor, stream, whole = _pieces(_model())
    other = stream.clone()
    other[:, 6:] += 3.0
    seen = taken_apart(predictor, other)
    torch.testing.assert_close(seen.expected[:, :7], whole.expected[:, :7], rtol=0, atol=0)
    assert (seen.expected[:, 7:] != whole.expected[:, 7:]).all()


def test_each_change_puts_in_place_what_it_says() -> None:
    _, stream, whole = _pieces(_model())
    h, guess, new = whole.stream, whole.expected, whole.novel
    other, mean = torch.randn(len(TEXT), h.shape[-1]), torch.randn(h.shape[-1])
    wanted = [
        (Scale(0.5, -0.25), guess * 1.5 + new * 0.75),
        (Scale(-1.0, 0.0), new),
        (Stretch(0.5), h * 1.5),
        (Scale(0.5, 0.5), h * 1.5),
        (Level("novel", mean), guess + mean),
        (Level("expected", mean), mean + new),
        (Expect(other), other + new),
        (Renew(other), guess + other),
        (Both(Expect(other), Renew(other)), (other + other)[None]),
        (Move(mean), h + mean),
    ]
    for change, expected in wanted:
        found = steered(stream, whole, change)
        torch.testing.assert_close(found[:, 1:], expected[:, 1:])
        torch.testing.assert_close(found[:, 0], stream[:, 0], rtol=0, atol=0)
    late = steered(stream, whole, Move(mean), first=4)
    torch.testing.assert_close(late[:, :4], stream[:, :4], rtol=0, atol=0)
    torch.testing.assert_close(late[:, 4:], h[:, 4:] + mean)


def test_the_own_expectation_in_the_others_place_changes_no_bit() -> None:
    _, stream, whole = _pieces(_model())
    torch.testing.assert_close(steered(stream, whole, Expect(whole.expected)), stream, rtol=0, atol=0)


def test_a_control_is_as_long_as_what_it_is_the_control_of() -> None:
    _, stream, whole = _pieces(_model())
    change = Scale(0.0, 0.7)
    drawn = Along(change, random_directions(len(TEXT), stream.shape[-1], 3))
    other = torch.randn(1, len(TEXT), stream.shape[-1])
    towards = Along(change, other, towards=True)
    length = (0.7 * whole.novel).norm(dim=-1)
    torch.testing.assert_close(drawn(whole).norm(dim=-1), length)
    torch.testing.assert_close(towards(whole).norm(dim=-1), length)
    cosine = torch.cosine_similarity(towards(whole)[:, 1:], (other - whole.stream)[:, 1:], dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    again = random_directions(len(TEXT), stream.shape[-1], 3)
    torch.testing.assert_close(drawn.directions, again, rtol=0, atol=0)
    assert (random_directions(2, 8, 4) != again[:2, :8]).any()


def test_another_text_that_is_too_short_is_refused() -> None:
    _, stream, whole = _pieces(_model())
    with pytest.raises(BadInput, match="the other text has 4 positions"):
        steered(stream, whole, Expect(torch.randn(4, stream.shape[-1])))


def test_a_state_that_does_not_exist_is_refused() -> None:
    model = _model()
    with pytest.raises(BadInput, match=f"state {model.anatomy.n_layers + 1} does not exist"):
        steering(Average(4), model.anatomy.n_layers + 1, Scale(), model.anatomy)


def test_a_bfloat16_stream_stays_bfloat16_and_untouched_where_nothing_is_added() -> None:
    stream = (torch.randn(1, 6, 16) * 300).to(torch.bfloat16)
    whole = taken_apart(Average(16), stream)
    found = steered(stream, whole, Scale(0.0, 0.0))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, stream, rtol=0, atol=0)
