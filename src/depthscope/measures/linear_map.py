"""Linear maps from one set of states onto another: random directions, ridge regression, where the best source lies.

Sources: Hoerl and Kennard 1970 (ridge regression); Csordas et al. 2025, arXiv 2505.13898 (maps between the states of
two models and their diagonal).
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


class Spectrum(NamedTuple):
    """A ridge problem in the eigenbasis of its Gram matrix, where every penalty is one division.

    values [d], ascending and not negative; vectors [d, d], one a column; rotated [d, column] = vectorsᵀ C.
    """

    values: Tensor
    vectors: Tensor
    rotated: Tensor

    def weights(self, penalty: Tensor) -> Tensor:
        """W [d, column] that minimises ||Y - X W||^2 + sum_j penalty_j ||W_j||^2: W_j = (G + penalty_j I)^-1 C_j.

        Args:
            penalty: above zero, one number or one a column: each column of Y is a regression of its own.
        """
        return self.vectors @ (self.rotated / (self.values[:, None] + penalty))


def directions(width: int, kept: int, seed: int = 0) -> Float[Tensor, "width kept"]:
    """Random orthonormal directions, one a column, in float64: Haar-distributed, equal for equal seeds.

    The squared norm of a vector on them is kept / width of its own on average; the norm of one vector is off by about
    sqrt(2 / kept) at most, relative to itself (exact where kept = width).
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(width, kept, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)


def spectral(gram: Float[Tensor, "d d"], cross: Float[Tensor, "d column"]) -> Spectrum:
    """The eigenbasis of a Gram matrix G = Xᵀ X, and C = Xᵀ Y in it; both centred by the caller.

    G may be singular: eigenvalues below zero by rounding count as zero.
    """
    gram, cross = at_least_float32(gram), at_least_float32(cross)
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    return Spectrum(values.clamp_min(0), vectors, vectors.T @ cross)


def direction_error(
    predicted: Float[Tensor, "*items d"], target: Float[Tensor, "*items d"]
) -> Float[Tensor, "*items"]:
    """Distance of two vectors scaled to length 1, || p/||p|| - y/||y|| ||. Range 0 .. 2, unit 1.

    It is the relative error after both rows were divided by their root mean square, as a norm layer does: it knows no
    lengths. Two orthogonal vectors have sqrt(2); where one is zero it is 1.
    """
    return torch.linalg.vector_norm(_unit(predicted) - _unit(target), dim=-1)


def best_sources(errors: Num[np.ndarray, "draw source target"]) -> Int[np.ndarray, "draw target"]:
    """The place of the source with the smallest error, for each target; the first of equal ones."""
    return errors.argmin(1)


def rank_correlation(
    values: Num[np.ndarray, "draw n"], along: Num[np.ndarray, " n"]
) -> Float[np.ndarray, " draw"]:
    """Spearman's correlation of each row with `along`, ties with their mean rank. Range -1 .. 1; NaN for a constant."""
    from scipy.stats import rankdata

    a, b = rankdata(values, axis=1), rankdata(along)
    a, b = a - a.mean(1, keepdims=True), b - b.mean()
    below = np.sqrt((a**2).sum(1) * (b**2).sum())
    return np.divide(a @ b, below, out=np.full(len(a), np.nan), where=below > 0)


def slopes(values: Num[np.ndarray, "draw n"], along: Num[np.ndarray, " n"]) -> Float[np.ndarray, " draw"]:
    """Least-squares slope of each row on `along`, with a free intercept; NaN where `along` is constant."""
    b = along - along.mean()
    below = float((b**2).sum())
    return values @ b / below if below > 0 else np.full(len(values), np.nan)


def sharpness(
    errors: Num[np.ndarray, "draw source target"],
    source_depth: Num[np.ndarray, " source"],
    target_depth: Num[np.ndarray, " target"],
    off: float = 0.25,
) -> Float[np.ndarray, " draw"]:
    """How much larger the error is `off` of the depth beside the diagonal than on it: mean over targets.

    On the diagonal is the source of the nearest depth; beside it those nearest to depth - off and depth + off, where
    they are inside [0, 1], averaged. 0 or less: the error has no minimum at equal relative depth. NaN without any.
    """
    found: list[np.ndarray] = []
    for k, depth in enumerate(target_depth):
        there = [depth + sign * off for sign in (-1, 1) if 0 < depth + sign * off <= 1]
        if not there:
            continue
        beside = [errors[:, _nearest(source_depth, one), k] for one in there]
        found.append(np.mean(beside, axis=0) - errors[:, _nearest(source_depth, depth), k])
    return np.mean(found, axis=0) if found else np.full(len(errors), np.nan)


def _nearest(depths: np.ndarray, depth: float) -> int:
    return int(np.abs(depths - depth).argmin())


def _unit(vectors: Tensor) -> Tensor:
    vectors = at_least_float32(vectors)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(length == 0, 0.0, vectors / length.clamp_min(torch.finfo(vectors.dtype).tiny))


LAWS = (
    Law(directions, ("bounded_by_one",), {"width": 7, "kept": 3}),
    Law(spectral, ()),
    Law(direction_error, ("non_negative", "symmetric", "zero_on_equal", "scale_free", "rotation_free", "batch_free")),
    Law(best_sources, ("scale_free", "shift_free")),
    Law(rank_correlation, ("bounded_by_one", "scale_free", "shift_free", "permutation_free")),
    Law(slopes, ("scale_free", "shift_free", "permutation_free")),
    Law(sharpness, ("shift_free",), {"source_depth": np.linspace(0, 1, 6), "target_depth": np.linspace(0, 1, 7)}),
)  # fmt: skip
