"""How many directions a cloud of vectors fills: ranks of its covariance spectrum, and its intrinsic dimension.

Sources: Roy and Vetterli 2007 (entropy of a spectrum as a rank); Facco et al. 2017 (TwoNN); the stable rank is that of
Rudelson and Vershynin 2007.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def entropy_rank(p: Float[Tensor, "*items n"]) -> Float[Tensor, "*items"]:
    """Exp of the Shannon entropy of the normalised eigenvalues. Range 1 .. n; any positive multiple gives the same."""
    p = at_least_float32(p)
    return torch.special.entr(p / p.sum(-1, keepdim=True)).sum(-1).exp()


def stable_rank(p: Float[Tensor, "*items n"]) -> Float[Tensor, "*items"]:
    """Sum of the eigenvalues over the largest one. Range 1 .. n; never above the participation ratio."""
    p = at_least_float32(p)
    return p.sum(-1) / p.amax(-1)


def held_rank(p: Float[Tensor, "*items n"], share: float = 0.9) -> Float[Tensor, "*items"]:
    """The fewest eigenvalues, largest first, that hold a share of their sum. Range 1 .. n, whole numbers.

    Raises:
        BadInput: for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise BadInput(f"held_rank needs a share above 0 and at most 1, found {share}")
    p = at_least_float32(p).sort(-1, descending=True).values
    held = p.cumsum(-1) / p.sum(-1, keepdim=True)
    # a sum that rounding keeps below its share still counts
    count = (held < share - 1e-6).sum(-1) + 1
    return torch.where(held.isnan().any(-1), math.nan, count.to(p.dtype))


def two_nn(vectors: Float[Tensor, "n d"], drop: float = 0.1) -> Float[Tensor, ""]:
    """Intrinsic dimension from the ratio of distances to the second and the first neighbour (TwoNN).

    For points of dimension D that are about equally dense within each neighbourhood the ratio mu follows a Pareto law
    with exponent D: -ln(1 - F(mu)) = D ln mu. D is the slope through the origin over all but the `drop` largest ratios.
    Points with a duplicate are left out. NaN with fewer than 10 points left.
    """
    vectors = at_least_float32(vectors)
    distance = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(torch.inf)
    return _slope(distance, drop)


def _slope(distance: Tensor, drop: float) -> Tensor:
    if distance.shape[-1] < 3:
        return distance.new_tensor(math.nan)
    near = distance.topk(2, dim=-1, largest=False).values
    ratio = (near[:, 1] / near[:, 0])[near[:, 0] > 0].sort().values
    kept = int(len(ratio) * (1 - drop))
    if kept < 10:
        return distance.new_tensor(math.nan)
    share = torch.arange(1, kept + 1, device=ratio.device, dtype=ratio.dtype) / len(ratio)
    x, y = ratio[:kept].log(), -torch.log1p(-share)
    return (x * y).sum() / (x * x).sum()


LAWS = (
    Law(entropy_rank, ("non_negative", "scale_free", "permutation_free", "batch_free")),
    Law(stable_rank, ("scale_free", "permutation_free")),
    Law(held_rank, ("non_negative", "permutation_free", "batch_free")),
    Law(two_nn, ("scale_free", "rotation_free")),
)
