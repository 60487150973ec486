"""Candidates and groups of tokens in a decode: the same numbers as a whole log-softmax gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from depthscope.errors import BadInput
from depthscope.runtime import decoding
from depthscope.runtime.head import Decode, Head, Trace
from depthscope.runtime.tiny import tiny

STATES, POSITIONS, WIDTH, VOCAB = 3, 5, 16, 300
GROUPS = ((0, 7, 299), tuple(range(100, 180)), ())
CHUNKS = (300, 128, 64, 37)


def head_of(cap: float | None) -> Head:
    torch.manual_seed(2)
    unembed = nn.Linear(WIDTH, VOCAB, bias=True).double()
    nn.init.normal_(unembed.weight)
    anatomy = replace(
        tiny("gpt2").anatomy, unembed=unembed, d_vocab=VOCAB, final_norm=None, logit_cap=cap, logit_scale=0.5
    )
    return Head(anatomy, torch.float64)


def decoded(chunk: int, cap: float | None) -> tuple[Trace, torch.Tensor, torch.Tensor]:
    head = head_of(cap)
    head.chunk = chunk
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(STATES, POSITIONS, WIDTH, generator=generator, dtype=torch.float64)
    candidates = torch.randint(0, VOCAB, (POSITIONS, 4), generator=generator)
    with torch.no_grad():
        trace = head.decode(states, states[-1], Decode(candidates=True, groups=GROUPS), candidates=candidates)
        z = 0.5 * head.anatomy.unembed(states)
        return trace, z if cap is None else cap * torch.tanh(z / cap), candidates


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_candidates_have_their_log_probability_and_competition_rank(chunk: int, cap: float | None) -> None:
    trace, z, candidates = decoded(chunk, cap)
    at = candidates.expand(STATES, -1, -1)
    assert trace.candidate_log_prob is not None
    assert trace.candidate_rank is not None
    torch.testing.assert_close(trace.candidate_log_prob, torch.log_softmax(z, -1).gather(-1, at))
    own = z.gather(-1, at)
    expected = 1 + (z[..., None, :] > own[..., :, None]).sum(-1)
    torch.testing.assert_close(trace.candidate_rank, expected)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_mass_of_a_group_is_the_sum_of_its_probabilities(chunk: int, cap: float | None) -> None:
    trace, z, _ = decoded(chunk, cap)
    assert trace.group_mass is not None
    p = torch.softmax(z, -1)
    expected = torch.stack([p[..., list(group)].sum(-1) for group in GROUPS], -1)
    torch.testing.assert_close(trace.group_mass, expected)
    torch.testing.assert_close(trace.group_mass[..., 2], torch.zeros(STATES, POSITIONS, dtype=torch.float64))


def test_a_candidate_is_left_out_of_its_own_rank_by_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _, _ = decoded(64, None)
    exact = decoding._gathered
    monkeypatch.setattr(decoding, "_gathered", lambda *args: exact(*args) - 1e-13)
    found, _, _ = decoded(64, None)
    torch.testing.assert_close(found.candidate_rank, expected.candidate_rank)


def test_blocks_of_positions_change_nothing() -> None:
    head = head_of(None)
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(STATES, POSITIONS, WIDTH, generator=generator, dtype=torch.float64)
    candidates = torch.randint(0, VOCAB, (POSITIONS, 4), generator=generator)
    wanted = Decode(candidates=True, groups=GROUPS)
    with torch.no_grad():
        whole = head.decode(states, states[-1], wanted, candidates=candidates)
        head.budget = 2 * VOCAB * 8 * 2
        pieces = head.decode(states, states[-1], wanted, candidates=candidates)
    torch.testing.assert_close(pieces.candidate_log_prob, whole.candidate_log_prob)
    torch.testing.assert_close(pieces.candidate_rank, whole.candidate_rank)
    torch.testing.assert_close(pieces.group_mass, whole.group_mass)


def test_what_cannot_be_decoded_is_refused_with_the_values() -> None:
    head, states = head_of(None), torch.zeros(STATES, POSITIONS, WIDTH, dtype=torch.float64)
    with pytest.raises(BadInput, match="candidates needs their ids"):
        head.decode(states, states[-1], Decode(candidates=True))
    with pytest.raises(BadInput, match=r"the ids \[300\]; the vocabulary has 300"):
        head.decode(states, states[-1], Decode(groups=((1, 300),)))


def test_the_union_of_different_groups_is_refused_and_of_equal_ones_kept() -> None:
    assert (Decode(groups=GROUPS) | Decode(top_k=1)).groups == GROUPS
    assert (Decode(groups=GROUPS) | Decode(groups=GROUPS)).groups == GROUPS
    with pytest.raises(BadInput, match="different token sets, 3 and 1"):
        Decode(groups=GROUPS) | Decode(groups=((1,),))


def test_no_position_at_all_gives_empty_reductions() -> None:
    head = head_of(None)
    states, none = torch.zeros(STATES, 0, WIDTH, dtype=torch.float64), torch.zeros(0, 4, dtype=torch.long)
    trace = head.decode(states, states[-1], Decode(top_k=3, candidates=True, groups=GROUPS), candidates=none)
    assert trace.candidate_rank is not None
    assert trace.group_mass is not None
    assert trace.top_ids is not None
    assert trace.candidate_rank.shape == (STATES, 0, 4)
    assert trace.group_mass.shape == (STATES, 0, 3)
    assert trace.top_ids.shape == (STATES, 0, 3)
