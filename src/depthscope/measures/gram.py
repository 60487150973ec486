"""What the products of all pairs of token vectors say: spectra of every mode, turning angles, cosines.

One product Z Z^T a text, in float64, holds all that does not change when the vectors are rotated together. Centring,
leaving tokens out, scaling to unit length, steps from token to token and their angles cost operations on tokens x
tokens from there on, never again on tokens x width. Sources: Wei et al. 2024 (centred unit rows); Skean et al. 2025,
eq. 1; Hosseini and Fedorenko 2023 (angles between steps); Ethayarajh 2019 (cosines).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.errors import BadInput, UnknownName
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32
from depthscope.measures.spectrum import CENTRED_MODES, MODES, VANISHED
from depthscope.threads import one_thread

_ROUNDING = 1e-6
"""Negative eigenvalues up to this share of the largest are rounding that centring has left."""

STILL = 4 * torch.finfo(torch.float32).eps
"""A step shorter than this share of the states at its ends is rounding, and its direction means nothing."""


def token_gram(vectors: Float[Tensor, "batch token d"]) -> Float[Tensor, "batch token token"]:
    """Z Z^T in float64: one product serves every mode.

    The product itself is float64: where vectors share a large mean, centring a float32 product leaves mostly rounding.
    """
    vectors = vectors.double()
    return vectors @ vectors.mT


def prepared_gram(
    gram: Float[Tensor, "batch token token"],
    mask: Bool[Tensor, "batch token"],
    mode: str,
    vanished: float = VANISHED,
) -> Float[Tensor, "batch token token"]:
    """The Gram matrix of `prepare(vectors, mask, mode)`, computed from the plain Gram matrix.

    Centring is H G H over the valid rows, done in float64 so that a massive row does not cancel the others. Masked and
    vanished rows are zero. Same modes and edge cases as `prepare`.

    Args:
        vanished: in the centred modes a row shorter than this share of the RMS norm before centring becomes zero.

    Raises:
        UnknownName: the mode is not one of `MODES`.
    """
    if mode not in MODES:
        raise UnknownName("spectrum mode", mode, MODES)
    # one pass each, in place: this runs for every mode, state and text
    kept = _restricted(at_least_float32(gram), mask)
    n = mask.sum(-1, keepdim=True).clamp_min(1)
    energy = kept.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) / n
    if mode in CENTRED_MODES:
        mean = kept.sum(-1) / n
        shift = mean.sum(-1, keepdim=True) / (2 * n) - mean
        kept.add_(shift.unsqueeze(-1)).add_(shift.unsqueeze(-2))
    square = torch.where(mask, kept.diagonal(dim1=-2, dim2=-1), 0.0).clamp_min(0)
    live = square > (vanished**2 * energy if mode in CENTRED_MODES else 0)
    scale = torch.where(live, square.rsqrt() if mode in ("wei", "unit") else 1.0, 0.0)
    return kept.mul_(scale.unsqueeze(-1)).mul_(scale.unsqueeze(-2))


def _restricted(gram: Tensor, mask: Tensor) -> Tensor:
    """A copy whose rows and columns outside the mask are zero, whatever stands there."""
    if mask.all():
        return gram.clone()
    inside = mask.to(gram)
    kept = (gram * inside.unsqueeze(-1)).mul_(inside.unsqueeze(-2))
    if kept.sum().isfinite():
        return kept
    # nothing times NaN is NaN, and a mask of all pairs costs more than both products
    return torch.where(mask.unsqueeze(-1) & mask.unsqueeze(-2), gram, 0.0)


def spectrum_of(gram: Float[Tensor, "batch token token"]) -> Float[Tensor, "batch token"]:
    """Eigenvalues of a prepared Gram matrix, largest first, normalised to sum 1; NaN where it is zero or not finite.

    Raises:
        ValueError: an eigenvalue is negative beyond the rounding of a float64 product that was centred.
    """
    gram = at_least_float32(gram)
    fine = torch.isfinite(gram).all(-1).all(-1)
    with one_thread():
        values = torch.linalg.eigvalsh(torch.where(fine[:, None, None], gram, 0.0)).flip(-1)
    allowed = _ROUNDING * values[:, :1]
    if (values < -allowed).any():
        raise ValueError(
            f"a Gram matrix has no negative eigenvalues, found {values.min().item():.2e}; compute it in full float32"
        )
    values = values.clamp_min(0)
    total = values.sum(-1, keepdim=True)
    return torch.where(fine[:, None] & (total > 0), values / total, math.nan)


def s2_of(gram: Float[Tensor, "batch token token"]) -> Float[Tensor, " batch"]:
    """Renyi entropy of order 2 of a prepared Gram matrix, nats: 2 ln tr K - ln ||K||_F^2; NaN where it is zero."""
    gram = at_least_float32(gram)
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (2 * trace.log() - 2 * torch.linalg.matrix_norm(gram).log()).clamp_min(0)


class Turns(NamedTuple):
    """Angles between neighbouring steps (or states) of paths in radians, and which of them are defined."""

    angles: Tensor
    defined: Tensor


def step_turns(gram: Float[Tensor, "batch token token"], step: int = 1) -> Turns:
    """Angles, 0 .. pi, between v_t and v_(t+k) with v_t = z_(t+k) - z_t and k = `step`: token - 2 k of them.

    All products come from three diagonals of the Gram matrix. An angle is undefined where one of its steps is shorter
    than `STILL` times the states at its ends. From a float64 Gram an angle near 0 or pi is exact to about 1e-7.

    Raises:
        BadInput: for a step below 1.
    """
    if step < 1:
        raise BadInput(f"step={step}; a step goes 1 token or more")
    gram, k = at_least_float32(gram), step
    square, near, far = (gram.diagonal(j * k, dim1=-2, dim2=-1) for j in range(3))
    length = (square[:, :-k] + square[:, k:] - 2 * near).clamp_min(0)
    moved = length > STILL**2 * torch.maximum(square[:, :-k], square[:, k:])
    product = near[:, k:] - square[:, k:-k] - far + near[:, :-k]
    cosine = product / (length[:, :-k] * length[:, k:]).sqrt()
    return _angles(cosine, moved[:, :-k] & moved[:, k:])


def state_turns(prepared: Float[Tensor, "batch token token"]) -> Turns:
    """Angles, 0 .. pi, between neighbouring rows whose Gram matrix is `prepared`: token - 1 of them.

    Of the Gram matrix of centred rows these are the `state_angle` of `curvature`. Undefined where a row is zero.
    """
    prepared = at_least_float32(prepared)
    square = prepared.diagonal(dim1=-2, dim2=-1)
    cosine = prepared.diagonal(1, dim1=-2, dim2=-1) / (square[:, :-1] * square[:, 1:]).sqrt()
    return _angles(cosine, (square[:, :-1] > 0) & (square[:, 1:] > 0))


def _angles(cosine: Tensor, defined: Tensor) -> Turns:
    return Turns(torch.where(defined, cosine, 0.0).clamp(-1, 1).arccos(), defined)


def mean_cosines(
    gram: Float[Tensor, "batch token token"], masks: Bool[Tensor, "batch mode token"]
) -> Float[Tensor, "batch mode"]:
    """`cosine_anisotropy` of the tokens of each mask: mean cosine over pairs of them, zero vectors left out."""
    gram = at_least_float32(gram)
    square = gram.diagonal(dim1=-2, dim2=-1)
    inverse = torch.where(square > 0, square.rsqrt(), 0.0)
    weight = masks * inverse.unsqueeze(1)
    n = (masks & (square > 0).unsqueeze(1)).sum(-1)
    mean = ((weight @ gram) * weight).sum(-1).sub(n) / (n * (n - 1))
    return torch.where(n < 2, math.nan, mean)


LAWS = (
    Law(token_gram, ("rotation_free", "batch_free")),
    Law(prepared_gram, ("batch_free", "scale_free"), {"mode": "wei"}),
    Law(prepared_gram, ("batch_free",), {"mode": "centred"}),
    Law(prepared_gram, ("batch_free", "scale_free", "bounded_by_one"), {"mode": "unit"}),
    Law(spectrum_of, ("non_negative", "bounded_by_one", "scale_free", "batch_free")),
    Law(s2_of, ("non_negative", "at_most_log_n", "scale_free", "batch_free")),
    Law(step_turns, ("non_negative", "scale_free", "batch_free")),
    Law(step_turns, ("non_negative", "scale_free", "batch_free"), {"step": 2}),
    Law(state_turns, ("non_negative", "scale_free", "batch_free")),
    Law(mean_cosines, ("bounded_by_one", "scale_free", "batch_free")),
)
