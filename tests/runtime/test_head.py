"""Streamed decoding against whole log-softmaxes: every reduction, every chunk size, ties, and memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from depthscope.errors import BadInput, Refused
from depthscope.runtime import decoding
from depthscope.runtime.head import Decode, Head
from depthscope.runtime.tiny import tiny

STATES, POSITIONS, WIDTH, VOCAB = 4, 7, 16, 700
EVERYTHING = Decode(
    top_k=5, entropy=True, kl=True, reverse_kl=True, jsd=True, target=True, target_rank=True, final_rank=True
)
HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "cap": {"cap": 3.0},
    "scale": {"scale": 0.25},
    "bias, scale and cap": {"bias": True, "scale": 0.5, "cap": 2.0},
    "bias and scale": {"bias": True, "scale": 4.0},
    "no norm": {"norm": False},
}
CHUNKS = (700, 4096, 640, 256, 64, 37, 1)


def head_of(bias: bool = False, cap: float | None = None, scale: float = 1.0, norm: bool = True) -> Head:
    torch.manual_seed(5)
    unembed = nn.Linear(WIDTH, VOCAB, bias=bias).double()
    final_norm = nn.LayerNorm(WIDTH).double()
    nn.init.normal_(unembed.weight)
    nn.init.normal_(final_norm.weight)
    anatomy = replace(
        tiny("gpt2").anatomy,
        unembed=unembed,
        d_vocab=VOCAB,
        final_norm=final_norm if norm else None,
        logit_scale=scale,
        logit_cap=cap,
    )
    return Head(anatomy, torch.float64)


def dense(head: Head, states: Tensor) -> Tensor:
    """cap(scale (W norm(h) + b)), written out."""
    a = head.anatomy
    normed = states if a.final_norm is None else a.final_norm(states)
    logits = normed @ a.unembed.weight.T
    logits = a.logit_scale * (logits if a.unembed.bias is None else logits + a.unembed.bias)
    return logits if a.logit_cap is None else a.logit_cap * torch.tanh(logits / a.logit_cap)


def material() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    states = torch.randn(STATES, POSITIONS, WIDTH, generator=generator, dtype=torch.float64)
    return states, torch.randint(0, VOCAB, (POSITIONS,), generator=generator)


def same(found: Tensor | None, expected: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("kind", list(HEADS))
@torch.no_grad()
def test_every_reduction_equals_the_whole_log_softmax(kind: str, chunk: int) -> None:
    head, (states, targets) = head_of(**HEADS[kind]), material()
    head.chunk = chunk
    trace = head.decode(states, states[-1], EVERYTHING, targets)
    z = dense(head, states)
    log_q, log_p = torch.log_softmax(z, -1), torch.log_softmax(z[-1], -1)
    at = targets.expand(STATES, -1)[..., None]
    final = z[-1].argmax(-1).expand(STATES, -1)[..., None]
    same(trace.logsumexp, torch.logsumexp(z, -1))
    same(trace.entropy, -(log_q.exp() * log_q).sum(-1))
    same(trace.kl, (log_p.exp() * (log_p - log_q)).sum(-1))
    same(trace.reverse_kl, (log_q.exp() * (log_q - log_p)).sum(-1))
    middle = torch.log((log_p.exp() + log_q.exp()) / 2)
    parts = log_p.exp() * (log_p - middle) + log_q.exp() * (log_q - middle)
    same(trace.jsd, parts.sum(-1) / 2)
    same(trace.shared_mass, torch.minimum(log_p.exp(), log_q.exp()).sum(-1))
    same(trace.cross_entropy, -log_q.gather(-1, at)[..., 0])
    same(trace.target_rank, 1 + (z > z.gather(-1, at)).sum(-1))
    same(trace.final_rank, 1 + (z > z.gather(-1, final)).sum(-1))
    same(trace.top_ids, z.topk(5, -1).indices)
    same(trace.top_logits, z.topk(5, -1).values)
    same(trace.final_top1, z[-1].argmax(-1))


@pytest.mark.parametrize(
    "name", ["top_k", "entropy", "kl", "reverse_kl", "jsd", "target", "target_rank", "final_rank"]
)
def test_a_reduction_alone_is_the_one_among_all_and_nothing_else_is_given(name: str) -> None:
    head, (states, targets) = head_of(bias=True), material()
    whole = head.decode(states, states[-1], EVERYTHING, targets)
    wanted = Decode(**{name: 5 if name == "top_k" else True})
    alone = head.decode(states, states[-1], wanted, targets)
    several = {
        "top_k": ("top_ids", "top_logits"), "jsd": ("jsd", "shared_mass"), "target": ("cross_entropy",),
    }  # fmt: skip
    fields = several.get(name, (name,))
    reductions = {
        "top_ids", "top_logits", "entropy", "kl", "reverse_kl", "jsd", "shared_mass", "cross_entropy", "target_rank",
        "final_rank",
    }  # fmt: skip
    for field in fields:
        same(getattr(alone, field), getattr(whole, field))
    assert all(getattr(alone, field) is None for field in reductions - set(fields))


def test_the_last_state_is_at_distance_zero_from_itself_with_rank_one() -> None:
    head, (states, _) = head_of(cap=2.0), material()
    trace = head.decode(states, states[-1], Decode(kl=True, reverse_kl=True, jsd=True, final_rank=True))
    assert trace.kl is not None
    assert trace.jsd is not None
    assert trace.shared_mass is not None
    assert float(trace.jsd[-1].max()) < 1e-12
    assert 0.01 < float(trace.jsd[0].min()) < float(trace.jsd[0].max()) < 0.694
    assert float(trace.shared_mass[-1].min()) > 1 - 1e-12
    assert trace.reverse_kl is not None
    assert trace.final_rank is not None
    assert float(trace.kl[-1].max()) < 1e-12
    assert float(trace.reverse_kl[-1].max()) < 1e-12
    assert trace.final_rank[-1].tolist() == [1] * POSITIONS
    assert float(trace.kl[0].min()) > 0.1


@torch.no_grad()
def test_the_divergence_of_the_last_state_is_zero_where_all_logits_of_a_large_vocabulary_lie_high() -> None:
    torch.manual_seed(2)
    unembed = nn.Linear(8, 2**18, bias=False)
    nn.init.normal_(unembed.weight)
    unembed.weight[:, 0] = 3.0
    states = torch.randn(2, 4, 8) / 2
    states[..., 0] = 60.0
    anatomy = replace(tiny("gpt2").anatomy, unembed=unembed, d_vocab=2**18, final_norm=None)
    kl = Head(anatomy, torch.float32).decode(states, states[-1], Decode(kl=True)).kl
    assert kl is not None
    # a float32 near 180 is known to 2e-5; sums over the whole vocabulary lose 3e-3
    assert float(kl[-1].max()) < 3e-4


def tied_head(columns: list[float], chunk: int) -> tuple[Head, Tensor]:
    """A head without norm whose logits are exactly `columns` at the one state (1, 0, ..)."""
    head = head_of(norm=False)
    head.chunk = chunk
    weight = torch.zeros(len(columns), WIDTH, dtype=torch.float64)
    weight[:, 0] = torch.tensor(columns, dtype=torch.float64)
    unembed = nn.Linear(WIDTH, len(columns), bias=False).double()
    unembed.weight.data = weight
    head.anatomy = replace(head.anatomy, unembed=unembed, d_vocab=len(columns))
    state = torch.zeros(1, 1, WIDTH, dtype=torch.float64)
    state[..., 0] = 1.0
    return head, state


@pytest.mark.parametrize("chunk", [4096, 640, 256, 37])
def test_of_equal_logits_the_lowest_ids_are_the_top_ones(chunk: int) -> None:
    columns = [0.0] * 1280
    for place in (700, 1279, 650, 3, 1000, 64, 900):
        columns[place] = 1.0
    columns[1100] = 2.0
    head, state = tied_head(columns, chunk)
    trace = head.decode(state, state[-1], Decode(top_k=5))
    assert trace.top_ids is not None
    assert trace.top_ids[0, 0].tolist() == [1100, 3, 64, 650, 700]


@pytest.mark.parametrize("chunk", [4096, 640, 37])
def test_where_all_logits_are_equal_the_first_ids_are_the_top_ones(chunk: int) -> None:
    head, state = tied_head([0.0] * 1280, chunk)
    trace = head.decode(state, state[-1], Decode(top_k=3, final_rank=True))
    assert trace.top_ids is not None
    assert trace.final_top1 is not None
    assert trace.top_ids[0, 0].tolist() == [0, 1, 2]
    assert trace.final_top1.tolist() == [0]


def test_one_top_id_is_the_argmax_and_ties_favour_the_lowest_id() -> None:
    columns = [0.0] * 1280
    for place in (1279, 130, 129, 600):
        columns[place] = 1.0
    head, state = tied_head(columns, 4096)
    trace = head.decode(state, state[-1], Decode(top_k=1))
    assert trace.top_ids is not None
    assert trace.top_ids[0, 0].tolist() == [129]


def test_a_rank_counts_strictly_greater_logits_and_leaves_the_target_out_by_its_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, (states, targets) = head_of(), material()
    head.chunk = 64
    expected = head.decode(states, states[-1], Decode(target=True, target_rank=True), targets)
    exact = decoding._gathered
    monkeypatch.setattr(decoding, "_gathered", lambda *args: exact(*args) - 1e-13)
    lowered = head.decode(states, states[-1], Decode(target=True, target_rank=True), targets)
    same(lowered.target_rank, expected.target_rank)


def test_ties_do_not_worsen_a_rank() -> None:
    head, state = tied_head([1.0, 3.0, 1.0, 1.0, 3.0, 0.0], 4)
    ranks = [
        head.decode(state, state[-1], Decode(target_rank=True), torch.tensor([k])).target_rank
        for k in range(6)
    ]
    assert [int(r) for r in ranks if r is not None] == [3, 1, 3, 3, 1, 6]


@pytest.mark.parametrize("positions", [1, 6, 7])
def test_blocks_of_positions_and_groups_of_states_change_nothing(
    positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, (states, targets) = head_of(bias=True, cap=2.0), material()
    expected = head.decode(states, states[-1], EVERYTHING, targets)
    head.budget, head.chunk = positions * VOCAB * 8 * 2, 90
    monkeypatch.setattr(decoding, "_ROWS", positions)
    found = head.decode(states, states[-1], EVERYTHING, targets)
    for name in (
        "kl",
        "reverse_kl",
        "jsd",
        "shared_mass",
        "entropy",
        "cross_entropy",
        "target_rank",
        "final_rank",
        "top_ids",
    ):
        same(getattr(found, name), getattr(expected, name))
    same(found.final_top1, expected.final_top1)


def test_no_logits_of_all_states_positions_and_tokens_ever_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    head, _ = head_of(), None
    states = torch.randn(STATES, 64, WIDTH, dtype=torch.float64)
    head.budget, head.chunk = 8 * VOCAB * 8 * 2, 100
    monkeypatch.setattr(decoding, "_ROWS", 16)
    seen: list[int] = []
    product = torch.mm

    def counting(*args: Tensor, out: Tensor) -> Tensor:
        seen.append(out.numel())
        return product(*args, out=out)

    monkeypatch.setattr(torch, "mm", counting)
    head.decode(states, states[-1], replace(EVERYTHING, target=False, target_rank=False))
    assert max(seen) <= 16 * 100
    assert sum(seen) >= STATES * 64 * VOCAB


def test_logits_are_those_of_the_formula() -> None:
    head, (states, _) = head_of(bias=True, scale=0.5, cap=2.0), material()
    same(head.logits(states), dense(head, states).detach())


def test_wanting_a_target_without_targets_is_an_error() -> None:
    head, (states, _) = head_of(), material()
    with pytest.raises(BadInput, match="targets"):
        head.decode(states, states[-1], Decode(target=True))


def test_a_model_without_an_unembedding_has_no_head() -> None:
    with pytest.raises(Refused, match="no unembedding"):
        Head(replace(tiny("gpt2").anatomy, unembed=None), torch.float32)


def test_the_union_of_wishes_is_the_largest_of_each() -> None:
    assert Decode(top_k=1, kl=True) | Decode(top_k=5, entropy=True) == Decode(top_k=5, kl=True, entropy=True)
    assert not Decode()
