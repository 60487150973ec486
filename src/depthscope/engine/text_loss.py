"""What each text costs at the end of a pass, or one covered token of it, decoded a few positions at a time."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.runtime.model import Model

PIECE = 64
"""Positions whose logits are held at once."""


def text_loss(
    model: Model,
    end: Float[Tensor, "row token d_model"],
    ids: Int[Tensor, "row token"],
    first: int = 1,
) -> Float[np.ndarray, " row"]:
    """Mean cross-entropy in nats of the tokens first .. T-1 of each row, from last states that a pass ended in."""
    found = torch.zeros(len(ids), dtype=torch.float64)
    for row in range(len(ids)):
        for k in range(first, ids.shape[1], PIECE):
            target = ids[row, k : k + PIECE].to(end.device)
            logits = model.head.logits(end[row, k - 1 : k - 1 + len(target)])
            found[row] += torch.nn.functional.cross_entropy(logits, target, reduction="sum").double().cpu()
    return (found / (ids.shape[1] - first)).numpy()


def masked_loss(
    model: Model,
    end: Float[Tensor, "row token d_model"],
    places: Int[Tensor, " row"],
    targets: Int[Tensor, " row"],
) -> Float[np.ndarray, " row"]:
    """Cross-entropy in nats of what was covered at one place of each row, from last states that a pass ended in."""
    states, targets = end[torch.arange(len(end)), places.to(end.device)], targets.to(end.device)
    found = [
        torch.nn.functional.cross_entropy(
            model.head.logits(states[k : k + PIECE]), targets[k : k + PIECE], reduction="none"
        )
        for k in range(0, len(states), PIECE)
    ]
    return torch.cat(found).double().cpu().numpy()
