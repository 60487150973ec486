"""Streaming attention with a compensation token: what a head forgets leaves one key and one value behind.

A head that keeps its first `start` and last `recent` keys sees, in place of the D keys it dropped, one token: the mean
of their keys and the mean of their values, counted D times (log D is added to its score). Where all dropped keys are
alike that is exact. Source: Tang et al. 2024 (arXiv 2407.15891), RazorAttention.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.runtime.attention import Call, Kernel, capped, intercepting
from depthscope.runtime.head_ablation import layer_of
from depthscope.runtime.model import Model


@contextmanager
def compensating(
    model: Model, full: Bool[Tensor, "layer head"], start: int, recent: int, token: bool = True
) -> Generator[None]:
    """Within a block of code all heads stream but those marked as full.

    Args:
        full: heads that keep all keys. start, recent: keys that others keep. token: whether dropped keys leave one
            behind; without it they are gone.
    """

    def attend(kernel: Kernel, call: Call) -> tuple[Tensor, Tensor | None]:
        out, weights = kernel(call)
        keeps = full[layer_of(model, call)].to(out.device)
        if bool(keeps.all()):
            return out, weights
        part = compensated(call, start, recent, token).to(out)
        return torch.where(keeps[None, None, :, None], out, part), weights

    with intercepting(model, attend):
        yield


def compensated(
    call: Call, start: int, recent: int, token: bool = True
) -> Float[Tensor, "row query head d_head"]:
    """Every head's output over its first and recent keys and the token that stands for what was dropped.

    Soft caps act before the count of the dropped keys; learned sinks are left out.
    """
    kind = torch.promote_types(call.query.dtype, torch.float32)
    times = call.query.shape[1] // call.key.shape[1]
    query, key, value = (x.to(kind) for x in (call.query, call.key, call.value))
    key, value = (x.repeat_interleave(times, 1) for x in (key, value))
    keys, queries = key.shape[2], query.shape[2]
    position = torch.arange(keys - queries, keys, device=key.device)
    place = torch.arange(keys, device=key.device)
    near = (position[:, None] - place < recent) | (place < start)
    visible = call.visible()
    kept, dropped = visible & near, visible & ~near
    scores = capped(query @ key.transpose(-1, -2), call.scaling, call.cap).masked_fill(~kept, float("-inf"))
    count = dropped.sum(-1, keepdim=True).to(kind)
    share = dropped.to(kind) / count.clamp_min(1)
    mean_key, mean_value = share @ key, share @ value
    alone = capped((query * mean_key).sum(-1, keepdim=True), call.scaling, call.cap) + count.log()
    if not token:
        alone = torch.full_like(alone, float("-inf"))
    rows = torch.softmax(torch.cat([scores, alone], -1), -1).nan_to_num(0.0)
    return (rows[..., :-1] @ value + rows[..., -1:] * mean_value).transpose(1, 2)
