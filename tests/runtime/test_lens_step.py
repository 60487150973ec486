"""The fused step against dense autograd: value and gradient for every kind of head and goal, and its memory."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from depthscope.runtime import lens_step
from depthscope.runtime.head import Head
from depthscope.runtime.lens_step import Goal, cross_entropy_goal, fused_loss, kl_goal
from depthscope.runtime.tiny import tiny

STATES, POSITIONS, WIDTH, VOCAB = 3, 5, 12, 300
HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "bias and scale": {"bias": True, "scale": 3.0},
    "cap": {"cap": 2.0},
    "bias, scale and cap": {"bias": True, "scale": 0.5, "cap": 1.5},
    "padded vocabulary": {"bias": True, "padded": 44},
    "no norm": {"norm": False},
}


@cache
def anatomy():
    return tiny("gpt2").anatomy


def head_of(
    bias: bool = False, cap: float | None = None, scale: float = 1.0, norm: bool = True, padded: int = 0
) -> Head:
    torch.manual_seed(3)
    unembed = nn.Linear(WIDTH, VOCAB, bias=bias).double()
    final_norm = nn.LayerNorm(WIDTH).double()
    nn.init.normal_(unembed.weight)
    nn.init.normal_(final_norm.weight)
    if padded:
        unembed.weight.data[-padded:] = 0.0
        unembed.bias.data[-padded:] = 0.0
    found = replace(
        anatomy(), unembed=unembed, d_vocab=VOCAB, final_norm=final_norm if norm else None,
        logit_scale=scale, logit_cap=cap,
    )  # fmt: skip
    return Head(found, torch.float64)


def log_softmax(head: Head, states: Tensor) -> Tensor:
    """log softmax of cap(scale (W norm(h) + b)), written out."""
    a = head.anatomy
    normed = states if a.final_norm is None else a.final_norm(states)
    logits = normed @ a.unembed.weight.T
    logits = a.logit_scale * (logits if a.unembed.bias is None else logits + a.unembed.bias)
    return torch.log_softmax(
        logits if a.logit_cap is None else a.logit_cap * torch.tanh(logits / a.logit_cap), -1
    )


def material() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    states = torch.randn(STATES, POSITIONS, WIDTH, generator=g, dtype=torch.float64).requires_grad_()
    final = torch.randn(POSITIONS, WIDTH, generator=g, dtype=torch.float64)
    weights = torch.where(torch.rand(VOCAB, generator=g) < 0.1, 0.001, 1.0).double()
    return states, final, weights, torch.randint(0, VOCAB, (POSITIONS,), generator=g)


def dense(head: Head, goal: str, states: Tensor) -> Tensor:
    """The loss [state, position] by the definition."""
    _, final, weights, targets = material()
    log_q = log_softmax(head, states)
    if goal == "cross_entropy":
        return -log_q.gather(-1, targets.expand(STATES, -1)[..., None])[..., 0]
    log_p = log_softmax(head, final).detach()
    w = weights if goal == "weighted" else torch.ones(VOCAB, dtype=torch.float64)
    return (w * log_p.exp() * (log_p - log_q)).sum(-1)


def goal_of(head: Head, goal: str) -> Goal:
    _, final, weights, targets = material()
    if goal == "cross_entropy":
        return cross_entropy_goal(head, targets)
    return kl_goal(head, final, weights if goal == "weighted" else None)


@pytest.mark.parametrize("chunk", [4096, 300, 128, 7])
@pytest.mark.parametrize("goal", ["kl", "weighted", "cross_entropy"])
@pytest.mark.parametrize("kind", list(HEADS))
def test_value_and_gradient_are_those_of_dense_autograd(
    kind: str, goal: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lens_step.CHUNK, "cpu", chunk)
    head = head_of(**HEADS[kind])
    states = material()[0]
    found = fused_loss(head, states, goal_of(head, goal))
    outer = torch.rand(found.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((outer * found).sum(), states)
    other = dense(head, goal, states)
    (expected,) = torch.autograd.grad((outer * other).sum(), states)
    torch.testing.assert_close(found, other, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("kind", ["bias and scale", "bias, scale and cap"])
@pytest.mark.parametrize("rows", [1, 5, 8, 1000])
def test_blocks_of_rows_change_nothing(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head, states = head_of(**HEADS[kind]), material()[0]
    expected = fused_loss(head, states, goal_of(head, "kl"))
    monkeypatch.setitem(lens_step.ROWS, "cpu", rows)
    found = fused_loss(head, states, goal_of(head, "kl"))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["plain", "cap"])
@pytest.mark.parametrize("goal", ["kl", "weighted", "cross_entropy"])
def test_the_goal_at_some_positions_is_the_goal_of_these_positions(kind: str, goal: str) -> None:
    head, states = head_of(**HEADS[kind]), material()[0]
    some = torch.tensor([3, 0])
    whole = fused_loss(head, states, goal_of(head, goal))
    part = fused_loss(head, states[:, some], goal_of(head, goal).at(some))
    torch.testing.assert_close(part, whole[:, some], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", list(HEADS))
def test_the_teacher_is_at_distance_zero_from_itself_and_names_its_most_likely_token(kind: str) -> None:
    head, (_, final, _, _) = head_of(**HEADS[kind]), material()
    goal = kl_goal(head, final)
    assert float(fused_loss(head, final[None], goal).detach().abs().max()) < 1e-12
    assert goal.top1 is not None
    assert goal.top1.tolist() == log_softmax(head, final).argmax(-1).tolist()


class Products(TorchDispatchMode):
    """Counts the sums of products E_q[W], which only a gradient needs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.addmm_.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("kind", "asked"), [("bias and scale", 1), ("bias, scale and cap", 2)])
def test_a_loss_that_nobody_differentiates_is_the_same_and_takes_no_product_for_a_gradient(
    kind: str, asked: int
) -> None:
    head, states = head_of(**HEADS[kind]), material()[0]
    goal = goal_of(head, "kl")
    with Products() as graded:
        expected = fused_loss(head, states, goal)
    with torch.no_grad(), Products() as plain:
        found = fused_loss(head, states.detach(), goal)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=0)
    assert (graded.count, plain.count) == (asked, 0)


def test_the_weights_of_the_model_get_no_gradient() -> None:
    head, states = head_of(bias=True), material()[0]
    fused_loss(head, states, goal_of(head, "kl")).sum().backward(inputs=[states])
    assert head.anatomy.unembed.weight.grad is None
    assert states.grad is not None


@pytest.mark.parametrize("kind", ["plain", "cap"])
def test_no_more_logits_exist_at_one_time_than_three_blocks(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What autograd would keep for the backward pass is [state, position, vocab]; here nothing that wide is saved."""
    monkeypatch.setitem(lens_step.CHUNK, "cpu", 32)
    monkeypatch.setitem(lens_step.ROWS, "cpu", POSITIONS)
    head, states = head_of(**HEADS[kind]), material()[0]
    saved: list[int] = []
    sizes: list[int] = []
    product = nn.functional.linear

    def counting(*args: Tensor) -> Tensor:
        found = product(*args)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(nn.functional, "linear", counting)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        fused_loss(head, states, goal_of(head, "kl"))
    assert max(sizes) == POSITIONS * 32
    assert sum(sizes) >= STATES * POSITIONS * VOCAB
    assert max(saved) <= STATES * POSITIONS * WIDTH


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else (found,):
            if isinstance(value, Tensor) and value._base is None:
                self.numel = max(self.numel, value.numel())
        return found


@pytest.mark.parametrize("cap", [None, 30.0])
def test_at_a_vocabulary_of_262144_no_tensor_of_the_step_is_larger_than_a_block(cap: float | None) -> None:
    """18 states at 48 positions: their logits together would be 906 MB, a block is 12.6 MB."""
    vocab, width, states = 262144, 16, 18
    unembed = nn.Linear(width, vocab, bias=False)
    found = replace(anatomy(), unembed=unembed, d_vocab=vocab, final_norm=None, logit_cap=cap)
    head = Head(found, torch.float32)
    rows = torch.randn(states, 48, width).requires_grad_()
    with Largest() as largest:
        loss = fused_loss(head, rows, kl_goal(head, torch.randn(48, width)))
        torch.autograd.grad(loss.sum(), rows)
    assert largest.numel <= lens_step.ROWS["cpu"] * lens_step.CHUNK["cpu"]
    assert largest.numel < states * 48 * vocab / 50
