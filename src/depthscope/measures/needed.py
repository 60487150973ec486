"""How deep something is still needed (last axis = state or layer): from effects of taking it away at each depth."""

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def last_needed(effect: Float[Tensor, "*items state"], share: float = 0.1) -> Float[Tensor, "*items"]:
    """Last state at which taking something away has at least a share of its largest effect.

    max{s : effect_s >= share * max_r effect_r}. Range 0 .. n_states - 1; NaN where no effect is above zero, or where
    one is NaN. Later states than this one can do without it. Source: read-out of the erasure maps of Csordas et al.
    2025 (arXiv 2505.13898).

    Raises:
        BadInput: for a share outside of (0, 1].
    """
    if not 0 < share <= 1:
        raise BadInput(f"last_needed asks for a share of {share}; pass one above 0 and at most 1")
    effect = at_least_float32(effect)
    largest = effect.amax(-1, keepdim=True)
    order = torch.arange(effect.shape[-1], device=effect.device)
    last = torch.where(effect >= share * largest, order, -1).amax(-1).to(effect.dtype)
    return torch.where(largest[..., 0] > 0, last, torch.nan)


LAWS = (Law(last_needed, ("scale_free", "batch_free")),)
