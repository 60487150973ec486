"""The fused step of lens training: loss and gradient of many decoded states, without any [token, vocab] tensor kept.

With u = readout(norm(state)), q = softmax of the head's logits z = cap(scale (W u + b)), and per position a goal
(m, C, beta, c0) the loss is

    loss = c0 - scale (C u + beta) + m logsumexp(z),        dloss/du = scale (m E_q[W] - C).

For KL(p || q): m = 1, C = E_p[W], beta = E_p[b], c0 = sum p log p. With weights w on the vocabulary, that is for
sum w p (log p - log q): m = sum w p, C = sum w p W, c0 = sum w p log p. For the cross-entropy of token y: m = 1,
C = W_y, beta = b_y, c0 = 0. So a state costs two matrix products with the vocabulary, one for z and one for E_q[W],
as attention over the vocabulary would; chunks of z are forgotten at once. With a soft cap C is no constant, as
dz/du = scale (1 - (z / cap)^2) W: the teacher's chunk of p is computed again beside each chunk of z.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from depthscope.runtime.head import Head

ROWS = {"cpu": 768, "cuda": 8192}
CHUNK = {"cpu": 4096, "cuda": 16384}
"""Rows and columns of one block of logits; three such blocks are all that the step holds beside its result."""


@dataclass(frozen=True)
class Goal:
    """What decoded states are compared with, at each position.

    Args:
        mass: m. constant: c0. mixed: C, and offset: beta; both None for a soft-capped head.
        teacher: u of the final state and logsumexp of its logits, and weights: w; kept for soft-capped heads.
        targets: ids, where the goal is cross-entropy. top1: the teacher's most likely id (lowest of equal ones).
    """

    mass: Float[Tensor, " position"]
    constant: Float[Tensor, " position"]
    mixed: Float[Tensor, "position d_model"] | None
    offset: Float[Tensor, " position"] | None
    top1: Int[Tensor, " position"] | None = None
    teacher: tuple[Tensor, Tensor] | None = None
    weights: Float[Tensor, " vocab"] | None = None
    targets: Int[Tensor, " position"] | None = None

    def at(self, kept: Tensor) -> Goal:
        """The goal at some positions, given by index."""

        def some(part: Tensor | None) -> Tensor | None:
            return None if part is None else part[kept]

        pair = None if self.teacher is None else (self.teacher[0][kept], self.teacher[1][kept])
        return Goal(
            self.mass[kept], self.constant[kept], some(self.mixed), some(self.offset), some(self.top1), pair,
            self.weights, some(self.targets),
        )  # fmt: skip


@torch.no_grad()
def kl_goal(
    head: Head, final: Float[Tensor, "position d_model"], weights: Float[Tensor, " vocab"] | None = None
) -> Goal:
    """The goal KL(final || state); with `weights` w the sum of w_v p_v (log p_v - log q_v), no longer a divergence."""
    u = head.normalised(final)
    found = _Expectation(head, u, weights)
    for start, stop, weight, bias in _pieces(head):
        found.take(_logits(head, u, weight, bias), start, stop, weight, bias)
    lse = found.maximum + found.total.log()
    mass = found.weighted / found.total
    constant = found.dotted / found.total - mass * lse
    if head.anatomy.logit_cap is not None:
        return Goal(mass, constant, None, None, found.top1, (u, lse), weights)
    mixed, offset = found.mixed / found.total[:, None], found.offset / found.total
    return Goal(mass, constant, mixed, offset, found.top1)


@torch.no_grad()
def cross_entropy_goal(head: Head, targets: Int[Tensor, " position"]) -> Goal:
    """The goal -log q(target)."""
    weight, bias = head.unembedding()
    rows = weight[targets].to(head.precision)
    zeros = rows.new_zeros(len(targets))
    offset = zeros if bias is None else bias[targets].to(head.precision)
    if head.anatomy.logit_cap is None:
        return Goal(zeros + 1, zeros, rows, offset)
    return Goal(zeros + 1, zeros, None, None, targets=targets)


def fused_loss(
    head: Head, states: Float[Tensor, "state position d_model"], goal: Goal
) -> Float[Tensor, "state position"]:
    """The loss of each state at each position, in nats; the gradient flows to `states`, never to the head.

    Memory beyond the result: three blocks of ROWS x CHUNK logits, and for the backward pass a vector of d_model a row.
    Where no gradient is asked for, one product with the vocabulary is taken instead of two.
    """
    return _Fused.apply(head.normalised(states), head, goal)  # pyright: ignore[reportReturnType]


class _Fused(torch.autograd.Function):
    """loss(u) with its gradient, where one is asked for, both taken in the forward pass."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, head: Head, goal: Goal) -> Tensor:  # noqa: ANN401
        together = max(1, ROWS[_kind(u)] // max(1, u.shape[1]))
        graded = ctx.needs_input_grad[0]
        parts = [_block(head, u[k : k + together], goal, graded) for k in range(0, u.shape[0], together)]
        if graded:
            ctx.save_for_backward(torch.cat([gradient for _, gradient in parts]))
        return torch.cat([loss for loss, _ in parts])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0][..., None], None, None


def _block(head: Head, u: Tensor, goal: Goal, graded: bool) -> tuple[Tensor, Tensor]:
    """Loss [state, position] and its gradient [state, position, d_model] for some states; empty where not graded."""
    kind = _CappedBlock if head.anatomy.logit_cap is not None else _Block
    block = kind(head, u.flatten(0, 1), goal, graded)
    for start, stop, weight, bias in _pieces(head):
        block.take(start, stop, weight, bias)
    return block.loss().view(u.shape[:2]), block.gradient().view(u.shape) if graded else u[:0]


class _Block:
    """Rows = state x position against an affine head: online logsumexp and, where graded, E_q[W]."""

    def __init__(self, head: Head, u: Tensor, goal: Goal, graded: bool) -> None:
        self.head, self.u, self.goal, self.graded = head, u, goal, graded
        self.states = u.shape[0] // max(1, goal.mass.shape[0])
        self.maximum = u.new_full((len(u),), float("-inf"))
        self.total = u.new_zeros(len(u))
        self.mixed = torch.zeros_like(u)

    def take(self, start: int, stop: int, weight: Tensor, bias: Tensor | None) -> None:
        """One chunk of the vocabulary."""
        del start, stop
        z = _logits(self.head, self.u, weight, bias)
        self._grow(z)
        if self.graded:
            self.mixed.addmm_(z, weight)

    def _grow(self, z: Tensor) -> None:
        """exp(z - maximum) in place of z, with total and mixed rescaled to the new maximum."""
        maximum = torch.maximum(self.maximum, z.amax(-1))
        shrink = torch.exp(self.maximum - maximum)
        z.sub_(maximum[:, None]).exp_()
        self.total.mul_(shrink).add_(z.sum(-1))
        self.mixed.mul_(shrink[:, None])
        self.maximum = maximum

    def loss(self) -> Tensor:
        """A number a row."""
        lse = self.maximum + self.total.log()
        return self._each(self.goal.constant) - self._towards() + self._each(self.goal.mass) * lse

    def gradient(self) -> Tensor:
        """A vector a row; E_q[W] is overwritten."""
        share = self._each(self.goal.mass) / self.total
        return self.mixed.mul_(share[:, None]).sub_(self._pull()).mul_(self.head.anatomy.logit_scale)

    def _towards(self) -> Tensor:
        """How the goal pulls at u, scale (C u + beta): a number a row."""
        assert self.goal.offset is not None
        dotted = torch.linalg.vecdot(self._pull(), self.u) + self._each(self.goal.offset)
        return self.head.anatomy.logit_scale * dotted

    def _pull(self) -> Tensor:
        """C, a vector a row."""
        assert self.goal.mixed is not None
        return self._each(self.goal.mixed)

    def _each(self, part: Tensor) -> Tensor:
        """A position's value for every state's row."""
        return part.repeat(self.states, *(1,) * (part.dim() - 1))


class _CappedBlock(_Block):
    """Rows against a soft-capped head: the teacher's chunk is computed again, both sides are multiplied by dz/du."""

    def __init__(self, head: Head, u: Tensor, goal: Goal, graded: bool) -> None:
        super().__init__(head, u, goal, graded)
        self.against = torch.zeros_like(u)
        self.dotted = u.new_zeros(len(u))

    def take(self, start: int, stop: int, weight: Tensor, bias: Tensor | None) -> None:
        """One chunk of the vocabulary."""
        z = _logits(self.head, self.u, weight, bias)
        cap = self.head.anatomy.logit_cap
        assert cap is not None
        p = self._each(self._teacher(start, stop, weight, bias))
        self.dotted += torch.linalg.vecdot(p, z)
        slope = z.div(cap).square_().neg_().add_(1.0) if self.graded else None
        self._grow(z)
        if slope is not None:
            self.against.addmm_(p.mul_(slope), weight)
            self.mixed.addmm_(z.mul_(slope), weight)

    def _teacher(self, start: int, stop: int, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One chunk of w p, [position, chunk]; one at the target where the goal is cross-entropy."""
        goal = self.goal
        if goal.targets is not None:
            ids = torch.arange(start, stop, device=self.u.device)
            return (goal.targets[:, None] == ids).to(self.u)
        assert goal.teacher is not None
        u, lse = goal.teacher
        p = _logits(self.head, u, weight, bias).sub_(lse[:, None]).exp_()
        return p if goal.weights is None else p.mul_(goal.weights[start:stop].to(p))

    def _towards(self) -> Tensor:
        return self.dotted

    def _pull(self) -> Tensor:
        return self.against


class _Expectation:
    """The teacher's sums over the vocabulary, each multiplied by exp(maximum): see `kl_goal`."""

    def __init__(self, head: Head, u: Tensor, weights: Tensor | None) -> None:
        rows = len(u)
        self.affine, self.weights = head.anatomy.logit_cap is None, weights
        self.maximum = u.new_full((rows,), float("-inf"))
        self.total, self.weighted, self.dotted, self.offset = (u.new_zeros(rows) for _ in range(4))
        self.mixed = torch.zeros_like(u) if self.affine else u.new_zeros(rows, 0)
        self.top1 = torch.zeros(rows, dtype=torch.long, device=u.device)

    def take(self, z: Tensor, start: int, stop: int, weight: Tensor, bias: Tensor | None) -> None:
        """One chunk of logits [row, chunk]."""
        peak, at = z.max(-1)
        self.top1 = torch.where(peak > self.maximum, at + start, self.top1)
        maximum = torch.maximum(self.maximum, peak)
        shrink = torch.exp(self.maximum - maximum)
        e = torch.exp(z - maximum[:, None])
        self.total.mul_(shrink).add_(e.sum(-1))
        if self.weights is not None:
            e *= self.weights[start:stop].to(e)
        self.weighted.mul_(shrink).add_(e.sum(-1))
        self.dotted.mul_(shrink).add_(torch.linalg.vecdot(e, z))
        self.offset.mul_(shrink)
        if self.affine:
            self.mixed.mul_(shrink[:, None]).addmm_(e, weight)
            self.offset += 0.0 if bias is None else e @ bias
        self.maximum = maximum


def _pieces(head: Head) -> Iterator[tuple[int, int, Tensor, Tensor | None]]:
    """The unembedding in chunks, in the head's precision."""
    width = CHUNK[_kind(head.unembedding()[0])]
    for start in range(0, head.d_vocab, width):
        stop = min(start + width, head.d_vocab)
        weight, bias = head.piece(start, stop)
        yield start, stop, weight.detach(), None if bias is None else bias.detach()


def _logits(head: Head, u: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return head.finish(nn.functional.linear(u, weight, bias))


def _kind(tensor: Tensor) -> str:
    return "cpu" if tensor.device.type == "cpu" else "cuda"
