"""Mean states of a material: what a position's state is replaced by when it is erased."""

from __future__ import annotations

from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.materials.window import Windows
from depthscope.measures.residual import sink_mask
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

WINDOWS = 64
"""Windows that a mean is taken over; every shard takes it anew, so that shards do not depend on each other."""


def state_means(
    model: Model, windows: Windows, sinks: bool = False, limit: int = WINDOWS
) -> Float[Tensor, "state d_model"]:
    """Mean of every state over the positions of the first windows, float64 sums in the model's own type of result.

    Args:
        sinks: count position 0 and massive positions in; False leaves them out.

    A window with a state that is not finite is left out; where no position is left the mean is zero.
    """
    total = torch.zeros(model.anatomy.n_layers + 1, model.anatomy.d_model, dtype=torch.float64)
    count = 0
    chosen = sorted(windows.items[:limit], key=lambda w: (len(w.ids), w.index))
    for _, group in groupby(chosen, key=lambda w: len(w.ids)):
        seen = run(
            model, Batch.of_ids([list(w.ids) for w in group]), read=["L0.resid_pre", "L*.resid_post"]
        ).states()
        seen = seen[:, torch.isfinite(seen).all(-1).all(-1).all(0)]
        norms = torch.linalg.vector_norm(seen, dim=-1).transpose(0, 1)
        plain = torch.ones(seen.shape[1:3], dtype=torch.bool, device=seen.device)
        if not sinks and seen.shape[1]:
            plain = ~sink_mask(norms)
        total += seen[:, plain].double().sum(1).cpu()
        count += int(plain.sum())
    return (total / max(1, count)).to(model.device, model.dtype)
