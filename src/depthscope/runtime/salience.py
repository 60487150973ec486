"""Salience of each block's weights: one backward pass over a recorded pass, block by block.

A block is run again from its recorded input while its own weights ask for a gradient, so that no more than one
block's graph and gradients exist at a time.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthscope.runtime.replay import call_block
from depthscope.runtime.run import Seen
from depthscope.runtime.sweep import next_ids

_POSITIONS = 128
"""Positions whose logits exist at one time."""


def block_saliences(seen: Seen) -> Float[Tensor, " layer"]:
    """Sum over the weights of each block of |w * dL/dw|, nats, float64; L is the mean loss of the next token.

    Weights that several blocks share count in each of them, with that block's part of the gradient.

    Args:
        seen: a pass made with `record=True` that read all states.

    Source: Kim et al. 2024 (arXiv 2402.02834), section 3.1.
    """
    states = [seen[site] for site in seen.model.anatomy.states()]
    gradient = loss_gradient(seen, states[-1])
    found = torch.zeros(seen.model.anatomy.n_layers, dtype=torch.float64)
    for layer in reversed(seen.model.anatomy.layers):
        with asking(layer.block) as weights, torch.enable_grad():
            start = states[layer.index].detach().requires_grad_()
            # a copy, since a block may write into the stream it is given
            out = call_block(seen, layer.index, start.clone())
            slopes = torch.autograd.grad(out, [start, *weights], gradient, allow_unused=True)
            gradient = slopes[0]
        pairs = [(w.detach(), g) for w, g in zip(weights, slopes[1:], strict=True) if g is not None]  # pyright: ignore[reportUnnecessaryComparison]
        found[layer.index] = sum(float((w * g).abs().double().sum()) for w, g in pairs)
    return found


def loss_gradient(
    seen: Seen, final: Float[Tensor, "row token d_model"]
) -> Float[Tensor, "row token d_model"]:
    """Gradient of the mean loss of the next token with respect to the last state; 0 where there is no next token."""
    every = seen.batch.mask.nonzero()
    targets, known = next_ids(seen, every)
    index, targets = every[known], targets[known]
    found = torch.zeros_like(final)
    for rows, gold in zip(index.split(_POSITIONS), targets.split(_POSITIONS), strict=True):
        with torch.enable_grad():
            ends = final[rows[:, 0], rows[:, 1]].detach().requires_grad_()
            loss = nn.functional.cross_entropy(seen.model.head.graded(ends), gold, reduction="sum")
            (slope,) = torch.autograd.grad(loss, ends)
        found[rows[:, 0], rows[:, 1]] = slope / len(index)
    return found


@contextmanager
def asking(block: nn.Module) -> Generator[list[nn.Parameter]]:
    """The floating weights of a block, which ask for a gradient while this lasts."""
    weights = [p for p in block.parameters() if p.is_floating_point()]
    before = [p.requires_grad for p in weights]
    try:
        for parameter in weights:
            parameter.requires_grad_(True)
        yield weights
    finally:
        for parameter, asked in zip(weights, before, strict=True):
            parameter.requires_grad_(asked)
