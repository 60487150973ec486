"""Causal self-attention for training on a processor: its backward pass is written out, row by row and in blocks.

Between the projections everything of one row stays in the cache, queries and keys are turned where they lie, and no
block of keys that a block of queries cannot see is multiplied. The same numbers as `scaled_dot_product_attention`
gives, up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

BLOCK = 64
"""Queries that are multiplied together; shorter blocks skip more of the keys ahead, longer ones multiply faster."""
ROPE_BASE = 10_000.0
Packed = Float[Tensor, "row token 3 head d_head"]
Tables = tuple[Tensor, Tensor]


def attended(
    x: Float[Tensor, "row token width"],
    weight: Float[Tensor, "packed width"],
    bias: Float[Tensor, " packed"] | None,
    heads: int,
    rope: bool,
) -> Float[Tensor, "row token inner"]:
    """softmax(q kᵀ / sqrt(d_head) over the keys up to each query) v of every head, with q, k, v = x Wᵀ + b.

    Differentiable once, in x, weight and bias. What is kept for the backward pass: q, k, v, and half of the attention.

    Args:
        weight: rows of all queries, then of all keys, then of all values. rope: q and k are turned by their positions.
    """
    return _Attended.apply(x, weight, bias, heads, rope)  # pyright: ignore[reportReturnType]


def turns(tokens: int, d_head: int, first: int = 0, device: torch.device | None = None) -> Tables:
    """Cosines and sines of rotary positions first, first + 1, ..., [token d_head / 2] in float32: position x rate.

    Pairs (j, j + d/2) are turned at rate 10000^(-2j/d). Source: Su et al. 2021 (arXiv 2104.09864).
    """
    half = d_head // 2
    rates = ROPE_BASE ** (-torch.arange(half, dtype=torch.float32, device=device) / half)
    angles = torch.arange(first, first + tokens, dtype=torch.float32, device=device)[:, None] * rates
    return angles.cos(), angles.sin()


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, heads: int, rope: bool) -> Tensor:  # noqa: ANN401
        rows, tokens, _ = x.shape
        packed = functional.linear(x, weight, bias).view(rows, tokens, 3, heads, -1)
        tables = _scaled(tokens, packed, rope)
        read = torch.empty_like(packed[:, :, 0])
        shares: list[Tensor] = []
        for one, into in zip(packed, read, strict=True):
            _turn(one[:, :2], *tables)
            shares += _read(one, into)
        ctx.save_for_backward(x, weight, packed, *tables, *shares)
        ctx.biased = bias is not None
        return read.view(rows, tokens, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: ANN401
        x, weight, packed, cos, sin, *shares = ctx.saved_tensors
        found, grads = torch.empty_like(packed), outer[0].reshape(packed[:, :, 0].shape)
        each = len(shares) // len(packed)
        for row, (one, into) in enumerate(zip(packed, found, strict=True)):
            _unread(one, grads[row], shares[row * each : (row + 1) * each], into)
            _turn(into[:, :2], cos, -sin)
        flat = found.view(-1, len(weight))
        of_x = (flat @ weight).view_as(x) if ctx.needs_input_grad[0] else None
        return of_x, flat.T @ x.flatten(0, 1), flat.sum(0) if ctx.biased else None, None, None


def _scaled(tokens: int, packed: Tensor, rope: bool) -> Tables:
    """Tables [token 2 1 pair] for queries and keys; those of queries hold the scale 1 / sqrt(d_head) too."""
    d_head = packed.shape[-1]
    cos, sin = turns(tokens, d_head)
    if not rope:
        cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
    scale = torch.tensor([d_head**-0.5, 1.0], dtype=packed.dtype)[:, None, None]
    return cos.to(packed)[:, None, None] * scale, sin.to(packed)[:, None, None] * scale


def _turn(pairs: Float[Tensor, "token 2 head d_head"], cos: Tensor, sin: Tensor) -> None:
    """(a, b) := (a cos - b sin, b cos + a sin) in place."""
    a, b = pairs.chunk(2, -1)
    more = a * sin
    a.mul_(cos).addcmul_(b, sin, value=-1)
    b.mul_(cos).add_(more)


def _by_head(one: Float[Tensor, "token 3 head d_head"]) -> tuple[Tensor, ...]:
    """Queries, keys and values [head token d_head]: views."""
    return one.permute(1, 2, 0, 3).unbind(0)


def _read(
    one: Float[Tensor, "token 3 head d_head"], into: Float[Tensor, "token head d_head"]
) -> list[Tensor]:
    """Write what each query of a row reads, and return the attention of each block [head query key]."""
    (query, key, value), out = _by_head(one), into.transpose(0, 1)
    found = []
    for start in range(0, len(one), BLOCK):
        stop = min(start + BLOCK, len(one))
        scores = query[:, start:stop] @ key[:, :stop].mT
        ahead = torch.ones(stop - start, stop - start, dtype=torch.bool).triu(1)
        scores[:, :, start:].masked_fill_(ahead, float("-inf"))
        found.append(torch.softmax(scores, -1))
        torch.bmm(found[-1], value[:, :stop], out=out[:, start:stop])
    return found


def _unread(
    one: Float[Tensor, "token 3 head d_head"],
    grad: Float[Tensor, "token head d_head"],
    shares: list[Tensor],
    into: Float[Tensor, "token 3 head d_head"],
) -> None:
    """Write the gradient of queries, keys and values of a row, as they are after they were turned and scaled."""
    (query, key, value), (of_query, of_key, of_value) = _by_head(one), _by_head(into)
    for block in reversed(
        range(len(shares))
    ):  # the last block sees every key: it writes what the others add to
        start, attention = block * BLOCK, shares[block]
        stop = start + attention.shape[1]
        part = grad[start:stop].transpose(0, 1)
        scores = part @ value[:, :stop].mT
        scores.mul_(attention)
        scores.addcmul_(attention, scores.sum(-1, keepdim=True), value=-1)
        torch.bmm(scores, key[:, :stop], out=of_query[:, start:stop])
        beta = 0 if stop == len(one) else 1
        of_key[:, :stop].baddbmm_(scores.mT, query[:, start:stop], beta=beta)
        of_value[:, :stop].baddbmm_(attention.mT, part, beta=beta)
