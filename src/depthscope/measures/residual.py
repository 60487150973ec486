"""Measures of what a sublayer or layer writes into the stream (last axis = d_model).

`write` is what is added, `stream` what it is added to. For a layer: mixer write + mlp write against the
stream before the layer; for the mlp of a sequential block: its write against the stream after the mixer.
Sources: Csordas et al. 2025 (relative norm, cosine, effect of skipping); the norm identity is algebra.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


class Growth(NamedTuple):
    """How a write changes the squared norm of the stream; the two terms add up to the whole change."""

    parallel_gain: Tensor
    orthogonal_energy: Tensor


def relative_norm(
    write: Float[Tensor, "*items d_model"], stream: Float[Tensor, "*items d_model"], eps: float = 1e-6
) -> Float[Tensor, "*items"]:
    """Size of the write relative to the stream, ||w|| / max(||s||, eps). Range 0 .. inf, unit 1.

    Small embeddings make it huge at layer 0; leave that layer out of summaries.
    """
    return _norm(write) / _norm(stream).clamp_min(eps)


def cosine(
    write: Float[Tensor, "*items d_model"], stream: Float[Tensor, "*items d_model"]
) -> Float[Tensor, "*items"]:
    """Cosine between write and stream, <w, s> / (||w|| ||s||). Range -1 .. 1.

    Below zero the write erases, near zero it adds something new, above zero it strengthens what is there. 0
    where either vector is zero.
    """
    return (_unit(write) * _unit(stream)).sum(-1).clamp(-1, 1)


def growth(write: Float[Tensor, "*items d_model"], stream: Float[Tensor, "*items d_model"]) -> Growth:
    """The two terms of ||s + w||^2 - ||s||^2 = 2 <w, s> + ||w||^2.

    Returns:
        parallel_gain: 2 <w, s>, any sign; orthogonal_energy: ||w||^2, what the write would add if it were
        orthogonal to the stream. Both `Float[Tensor, "*items"]` in squared stream units. In float32 the sum
        check holds relative to ||s||^2, not to the terms.
    """
    write, stream = at_least_float32(write), at_least_float32(stream)
    return Growth(2 * (write * stream).sum(-1), write.square().sum(-1))


class Against(NamedTuple):
    """A write against the stream it is added to: ||w||, ||s|| and <w, s>; all that ratios and angles need."""

    size: Tensor
    stream: Tensor
    product: Tensor

    def ratio(self, eps: float = 1e-6) -> Tensor:
        """`relative_norm`."""
        return self.size / self.stream.clamp_min(eps)

    def cosine(self) -> Tensor:
        """`cosine`; 0 where either vector is zero."""
        nothing = (self.size == 0) | (self.stream == 0)
        # divided one by one: the product of two large norms could overflow
        return torch.where(nothing, 0.0, self.product / self.size / self.stream).clamp(-1, 1)


def against(
    write: Float[Tensor, "*items d_model"],
    stream: Float[Tensor, "*items d_model"],
    length: Float[Tensor, "*items"] | None = None,
) -> Against:
    """Norms of write and stream and their product in three passes over memory, each `Float[Tensor, "*items"]`.

    For float32 vectors with squares below 1e38; `cosine` has no such limit.

    Args:
        length: the norm of the stream, where it is known.
    """
    write, stream = at_least_float32(write), at_least_float32(stream)
    return Against(
        _norm(write), _norm(stream) if length is None else length, torch.linalg.vecdot(write, stream)
    )


def relative_change(
    clean_write: Float[Tensor, "*items d_model"],
    changed_write: Float[Tensor, "*items d_model"],
    eps: float = 1e-6,
) -> Float[Tensor, "*items"]:
    """How far an intervention moves a write, ||w - w'|| / max(||w||, eps).

    Range 0 .. inf, unit 1; 1 where w' is zero. Not symmetric: the clean write is the unit.
    """
    difference = at_least_float32(clean_write) - at_least_float32(changed_write)
    return _norm(difference) / _norm(clean_write).clamp_min(eps)


def sink_mask(
    norms: Float[Tensor, "*items state position"], ratio: float = 4.0
) -> Bool[Tensor, "*items position"]:
    """Positions that act as sinks: position 0, and each whose stream is massive at some later state.

    Massive: norm > ratio x the median over positions of that state, at any state >= 1 (the embedding does not
    count). NaN norms mark padding: they count neither for the median nor as sinks. Position 0 is the first of
    the axis, so sequences are padded on the right.
    """
    norms = at_least_float32(norms)
    massive = (norms > ratio * _median(norms))[..., 1:, :].any(-2)
    massive[..., 0] = True
    return massive


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(at_least_float32(vectors), dim=-1)


def _unit(vectors: Tensor) -> Tensor:
    # Each vector is scaled by itself: the product of two large norms could overflow.
    length = _norm(vectors).unsqueeze(-1)
    return torch.where(length == 0, 0.0, at_least_float32(vectors) / length)


def _median(values: Tensor) -> Tensor:
    """Median of the last axis without its NaN entries, axis kept; the two middle values are averaged."""
    n = (~values.isnan()).sum(-1, keepdim=True)
    ordered = values.sort(-1).values
    middle = [ordered.gather(-1, index.clamp_min(0)) for index in ((n - 1) // 2, n // 2)]
    return (middle[0] + middle[1]) / 2


LAWS = (
    Law(relative_norm, ("non_negative", "scale_free", "rotation_free", "one_on_equal", "batch_free")),
    Law(
        cosine,
        (
            "bounded_by_one",
            "symmetric",
            "scale_free",
            "rotation_free",
            "permutation_free",
            "one_on_equal",
            "batch_free",
        ),
    ),
    Law(growth, ("rotation_free", "permutation_free", "batch_free")),
    Law(against, ("rotation_free", "permutation_free", "batch_free")),
    Law(relative_change, ("non_negative", "zero_on_equal", "scale_free", "rotation_free", "batch_free")),
    Law(sink_mask, ("scale_free", "batch_free")),
)
