"""Which layers are never removed, and why: the first, the last, and those that make or take away a sink."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.pruning import sink_writes
from depthscope.measures.residual import sink_mask
from depthscope.runtime.run import Seen

MASSIVE = 10.0
"""A layer whose write at a sink exceeds the median stream this many times over is protected."""


def sink_ratios(seen: Seen) -> Tensor:
    """Each layer's largest write at a sink in units of the median stream behind it, [layer row], float32 or more."""
    states = seen.states()
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    norms = torch.linalg.vector_norm(states, dim=-1)
    norms = torch.where(seen.batch.mask, norms, torch.nan)
    writes = torch.linalg.vector_norm(states[1:] - states[:-1], dim=-1)
    return sink_writes(writes, norms[1:], sink_mask(norms.transpose(0, 1)))


def protected(
    ratios: np.ndarray, writers: np.ndarray | None = None, asked: Collection[int] = ()
) -> dict[int, str]:
    """Layer -> why it stays.

    Args:
        ratios: mean over windows of `sink_ratios`, [layer].
        writers: 1 where corpus_statistics found a sink writer, [layer].
        asked: layers that the user wants kept.

    Raises:
        BadInput: for an asked layer that does not exist.
    """
    last = len(ratios) - 1
    wrong = sorted(k for k in asked if not 0 <= k <= last)
    if wrong:
        raise BadInput(f"protect={wrong}: there are no such layers, the model has 0 to {last}")
    found = dict.fromkeys(sorted(asked), "asked for")
    for layer, ratio in enumerate(ratios.tolist()):
        size = f"{ratio:.0f} times the median stream"
        if ratio > MASSIVE:
            found[layer] = f"changes the sink by {size}"
        if writers is not None and writers[layer]:
            found[layer] = f"writes the sink, {size}"
    return dict(sorted({**found, 0: "first", last: "last"}.items()))
