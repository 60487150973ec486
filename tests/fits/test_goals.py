"""Which positions and which teacher a lens is trained towards, with and without reduced updates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from depthscope.errors import BadInput
from depthscope.fits.goals import Aim, variants
from depthscope.fits.states import Read, Split, batches, read
from depthscope.runtime.lens_step import fused_loss
from depthscope.runtime.model import Model

COUNT = 9


@pytest.fixture(scope="module")
def found(exact: Model, parts: Split) -> Read:
    return read(exact, next(iter(batches(parts.train))))


def log_probabilities(model: Model, found: Read) -> torch.Tensor:
    with torch.no_grad():
        return model.net(found.seen.batch.ids).logits.log_softmax(-1)


def frequent(model: Model, found: Read) -> tuple[int, ...]:
    """The two ids that the model prefers most often here."""
    top1 = log_probabilities(model, found).argmax(-1)
    return tuple(torch.bincount(top1.flatten()).topk(2).indices.tolist())


def test_the_plain_goal_is_the_model_at_the_chosen_positions(exact: Model, found: Read):
    at, goal = Aim().picked(exact, found, COUNT, 0)
    assert at.sum(1).tolist() == [COUNT] * len(at)
    log_p = log_probabilities(exact, found)[at]
    final = exact.net.transformer.ln_f.weight.new_zeros(1, int(at.sum()), exact.anatomy.d_model)
    log_q = exact.net.lm_head(exact.net.transformer.ln_f(final)).log_softmax(-1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1)
    torch.testing.assert_close(fused_loss(exact.head, final, goal), expected, rtol=1e-9, atol=1e-9)


def test_the_cross_entropy_goal_is_the_next_token_and_leaves_out_the_last_position(exact: Model, found: Read):
    at, goal = Aim("cross_entropy").picked(exact, found, 10**6, 0)
    assert not at[:, -1].any()
    assert at[:, 1:-1].all()
    rows, places = at.nonzero(as_tuple=True)
    targets = found.seen.batch.ids[rows, places + 1]
    loss = fused_loss(exact.head, found.states(at)[-1:], goal)
    expected = -log_probabilities(exact, found)[at].gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(loss[0], expected, rtol=1e-9, atol=1e-9)


def test_reduced_positions_are_those_where_the_teacher_prefers_a_token_of_the_set(exact: Model, found: Read):
    ids = frequent(exact, found)
    top1 = log_probabilities(exact, found).argmax(-1)
    member = torch.isin(top1, torch.tensor(ids))
    assert 0.1 < member.float().mean() < 0.9
    none, _ = Aim(reduced="position", rho=0.0, ids=ids).picked(exact, found, 10**6, 0)
    assert (none == (found.kept & ~member)).all()
    every, _ = Aim(reduced="position", rho=1.0, ids=ids).picked(exact, found, 10**6, 0)
    assert (every == found.kept).all()
    half, _ = Aim(reduced="position", rho=0.5, ids=ids).picked(exact, found, 10**6, 0)
    assert 0.3 < half[found.kept & member].float().mean() < 0.7


def test_a_reduced_lens_sees_as_many_positions_as_a_normal_one(exact: Model, found: Read):
    ids = frequent(exact, found)[1:]
    for reduced in ("none", "position", "label"):
        at, goal = Aim(reduced=reduced, rho=0.0, ids=ids).picked(exact, found, COUNT, 0)
        assert at.sum(1).tolist() == [COUNT] * len(at), reduced
        assert len(goal.mass) == int(at.sum())


def test_reduced_labels_are_positions_followed_by_a_token_of_the_set(exact: Model, found: Read):
    ids = found.seen.batch.ids
    common = tuple(torch.bincount(ids.flatten()).topk(2).indices.tolist())
    at, _ = Aim(reduced="label", rho=0.0, ids=common).picked(exact, found, 10**6, 0)
    rows, places = at.nonzero(as_tuple=True)
    assert not torch.isin(ids[rows, places + 1], torch.tensor(common)).any()
    assert int(at.sum()) > 0


def test_the_goal_of_a_reduced_batch_belongs_to_its_positions(exact: Model, found: Read):
    """The final state is at distance zero from its own goal, position by position."""
    ids = frequent(exact, found)
    for aim in (Aim(), Aim(reduced="position", rho=0.3, ids=ids), Aim(reduced="label", rho=0.3, ids=ids)):
        at, goal = aim.picked(exact, found, COUNT, 0)
        assert float(fused_loss(exact.head, found.states(at)[-1:], goal).detach().abs().max()) < 1e-9


def test_reduced_vocabulary_weighs_the_terms_of_the_sum(exact: Model, found: Read):
    ids = (5, 17, 40)
    at, goal = Aim(reduced="vocab", rho=0.0, ids=ids).picked(exact, found, COUNT, 0)
    states = found.states(at)[:1]
    log_p = log_probabilities(exact, found)[at]
    log_q = exact.net.lm_head(exact.net.transformer.ln_f(states)).log_softmax(-1)
    terms = log_p.exp() * (log_p - log_q)
    terms[..., list(ids)] = 0.0
    torch.testing.assert_close(fused_loss(exact.head, states, goal), terms.sum(-1), rtol=1e-9, atol=1e-9)


def test_a_shuffled_teacher_knows_the_tokens_and_not_their_order(exact: Model, found: Read):
    aim = Aim(teacher="shuffled")
    at, goal = aim.picked(exact, found, COUNT, 0)
    same, _ = Aim().picked(exact, found, COUNT, 0)
    assert (at == same).all()
    loss = fused_loss(exact.head, found.states(at)[-1:], goal)
    assert float(loss.detach().mean()) > 1e-3
    again = aim.picked(exact, found, COUNT, 0)[1]
    torch.testing.assert_close(again.constant, goal.constant, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"reduced": "position"}, "needs the tokens"),
        ({"rho": 1.5}, "from 0 to 1"),
        ({"objective": "cross_entropy", "reduced": "vocab", "ids": (1,)}, "has none"),
    ],
)
def test_aims_that_make_no_sense_are_refused(how: dict[str, Any], said: str):
    with pytest.raises(BadInput, match=said):
        Aim(**how)


class Words:
    """A tokenizer of whole words."""

    known = ("the", " the", "The", " The", " THE", "cat")

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return [self.known.index(text)] if text in self.known else [90, 91]


def test_all_single_token_spellings_of_a_word_count():
    assert sorted(variants(Words(), ["the"])) == [0, 1, 2, 3, 4]
    assert variants(Words(), ["cat"]) == (5,)
    with pytest.raises(BadInput, match="'dog'"):
        variants(Words(), ["dog"])
