"""Scores of layers by which they are removed: how little a layer turns the stream, and what it writes at sinks.

Sources: Men et al. 2024 (arXiv 2403.03853, block influence); Gromov et al. 2024 (arXiv 2403.17887, angular distance);
He et al. 2024 (arXiv 2406.15786, sublayers).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32
from depthscope.measures.residual import cosine


def influence(
    before: Float[Tensor, "*items d_model"], after: Float[Tensor, "*items d_model"]
) -> Float[Tensor, "*items"]:
    """How far the stream turns, 1 - cos(before, after). Range 0 .. 2, unit 1; 1 where either vector is zero."""
    return 1 - cosine(before, after)


def angular_distance(
    before: Float[Tensor, "*items d_model"], after: Float[Tensor, "*items d_model"]
) -> Float[Tensor, "*items"]:
    """The angle between two states as a share of a half turn, arccos(cos(before, after)) / pi. Range 0 .. 1, unit 1.

    Computed as 2 atan2(|u - v|, |u + v|) of the unit vectors, which does not lose small angles to rounding; 1/2 where
    either vector is zero.
    """
    u, v = _unit(before), _unit(after)
    angle = 2 * torch.atan2(torch.linalg.vector_norm(u - v, dim=-1), torch.linalg.vector_norm(u + v, dim=-1))
    return angle / math.pi


def sink_writes(
    writes: Float[Tensor, "layer row token"],
    norms: Float[Tensor, "layer row token"],
    sinks: Bool[Tensor, "row token"],
) -> Float[Tensor, "layer row"]:
    """The largest write of a layer at a sink, in units of the median norm of the row's stream behind the layer.

    Range 0 .. inf, unit 1; 0 for a row without a sink. A layer that makes a massive activation stands out by it, and so
    does one that takes it away.

    Args:
        writes: norms of block writes. norms: norms of the states behind the layers, NaN at padding.
    """
    typical = torch.nanquantile(at_least_float32(norms), 0.5, dim=-1)
    largest = torch.where(sinks, at_least_float32(writes), 0.0).amax(-1)
    return largest / typical.clamp_min(torch.finfo(typical.dtype).tiny)


def _unit(vectors: Tensor) -> Tensor:
    vectors = at_least_float32(vectors)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(length == 0, 0.0, vectors / length)


_TURNS = ("non_negative", "symmetric", "scale_free", "rotation_free", "permutation_free", "batch_free")

LAWS = (
    Law(influence, (*_TURNS, "zero_on_equal")),
    Law(angular_distance, (*_TURNS, "zero_on_equal", "bounded_by_one")),
    Law(sink_writes, ("non_negative", "scale_free")),
)
