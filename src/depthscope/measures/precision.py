"""The one rule about number formats: no measure computes below float32."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same values in float32 if their format is smaller, else unchanged (float64 stays float64).

    Half formats lose ranks, tie top-1 predictions and make Gram matrices indefinite; upcasting first costs
    little.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
