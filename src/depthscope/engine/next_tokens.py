"""How well true next tokens are predicted from last states: losses, and whether each is the most likely token."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.runtime.head import Decode
from depthscope.runtime.model import Model

WANTED = Decode(top_k=1, target=True)


def losses(
    model: Model, last: Float[Tensor, "row token d_model"], ids: Int[Tensor, "row token"]
) -> tuple[np.ndarray, np.ndarray]:
    """Loss in nats of each token but the first, and 1 where it is the most likely one, both [row, token - 1].

    Args:
        last: the last states of rows of equal length without padding, such as those of a changed pass.
    """
    rows, n = ids.shape[0], ids.shape[1] - 1
    flat = last[:, :-1].reshape(rows * n, -1)
    return tuple(part.reshape(rows, n) for part in at_targets(model, flat, ids[:, 1:].reshape(-1)))  # pyright: ignore[reportReturnType]


def at_targets(
    model: Model, last: Float[Tensor, "item d_model"], targets: Int[Tensor, " item"]
) -> tuple[np.ndarray, np.ndarray]:
    """Loss in nats of a target behind each last state, and 1 where it is the most likely token."""
    with torch.no_grad():
        trace = model.head.decode(last[None], last, WANTED, targets)
    assert trace.cross_entropy is not None
    assert trace.top_ids is not None
    loss = trace.cross_entropy[0].double().cpu().numpy()
    return loss, (trace.top_ids[0, :, 0] == targets).double().cpu().numpy()
