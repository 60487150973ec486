"""Attention whose heads are each a mixture of full and streaming attention, for gates that are trained or given.

out = a * full + (1 - a) * stream, one a for each key-value head; streaming sees the first `start` and the last `recent`
keys only. The gradient reaches the gates and nothing else.
Source: Xiao et al. 2024 (arXiv 2410.10819), section 2.2.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.runtime.attention import Call, Kernel, intercepting
from depthscope.runtime.head_ablation import Ablation, layer_of, streamed
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.path_gradient import frozen
from depthscope.runtime.run import run


def gated_layers(model: Model, start: int, recent: int) -> list[int]:
    """Layers whose heads streaming would change: attention without a window, or with one longer than what is kept."""
    windows = model.anatomy.window_of_layer
    return [k for k in model.anatomy.attention_layers if (w := windows[k]) is None or w > start + recent]


@contextmanager
def gating(model: Model, gates: Float[Tensor, "layer kv_head"], start: int, recent: int) -> Generator[None]:
    """Mix every gated layer's heads by their gates within a block of code; other layers are left as they are."""
    lamb = Ablation((), "stream", start=start, recent=recent)
    layers = set(gated_layers(model, start, recent))

    def attend(kernel: Kernel, call: Call) -> tuple[Tensor, Tensor | None]:
        full, weights = kernel(call)
        layer = layer_of(model, call)
        if layer not in layers:
            return full, weights
        part = streamed(kernel, call, lamb)
        share = gates[layer].repeat_interleave(full.shape[2] // gates.shape[1]).to(full.dtype)[:, None]
        return share * full + (1 - share) * part, weights

    with intercepting(model, attend):
        yield


def last_states(
    model: Model,
    batch: Batch,
    positions: Tensor,
    gates: Float[Tensor, "layer kv_head"] | None = None,
    start: int = 0,
    recent: int = 1,
) -> Float[Tensor, "position d_model"]:
    """Last states behind the final norm at some positions of a batch of one row; with gates, in the gates' graph."""
    end = Site(model.anatomy.n_layers - 1, "resid_post")
    if gates is None:
        seen = run(model, batch, read=[end])
    else:
        with frozen(model.net), gating(model, gates, start, recent):
            seen = run(model, batch, read=[end], gradient=True)
    return model.head.normalised(seen[end][0, positions])


def gate_loss(
    full: Float[Tensor, "position d_model"],
    mixed: Float[Tensor, "position d_model"],
    gates: Float[Tensor, "layer kv_head"],
    weight: float,
) -> tuple[Tensor, Tensor]:
    """(distillation, whole loss): the mean squared difference, over positions and channels; and plus weight * mean |a|.

    Both terms are means, as in the released code; the paper writes sums. The gradient of the first term is exactly zero
    where all gates are 1: nothing is learnt from a single step there.
    """
    apart = (full.detach() - mixed).square().mean()
    return apart, apart + weight * torch.nanmean(gates.abs())
