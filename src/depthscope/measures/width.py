"""How many directions a cloud of vectors fills: ranks of its covariance spectrum, and its intrinsic dimension.

Sources: Roy and Vetterli 2007 (entropy of a spectrum as a rank); Facco et al. 2017 (TwoNN); the stable rank is that of
Rudelson and Vershynin 2007.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput, UnknownName
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


def rankme(sigma: Float[Tensor, "*items n"], eps: float = 1e-7) -> Float[Tensor, "*items"]:
    """RankMe: exp(-sum p ln p) with p = sigma / sum sigma + eps, of singular values. About `effective_rank`.

    `eps` is added after the division, so p sums to a little more than 1. Range about 1 .. n.
    Source: Garrido et al. 2023 (arXiv 2210.02885), equation 1.
    """
    sigma = at_least_float32(sigma)
    return torch.special.entr(sigma / sigma.sum(-1, keepdim=True) + eps).sum(-1).exp()


class Slope(NamedTuple):
    """Exponent of a spectrum's decay, and how much of its log values the line explains."""

    alpha: Tensor
    r_squared: Tensor


def decay(p: Float[Tensor, "*items n"], first: int = 11, last: int = 50) -> Slope:
    """alpha-ReQ: minus the slope of ln lambda_i over ln i, i = first..last (from 1, largest first), by least squares.

    About 1 in good representations by its authors. NaN where the range holds fewer than 3 positive eigenvalues.
    Source: Agrawal et al. 2022, alpha-ReQ.

    Raises:
        BadInput: for a range that is none.
    """
    if not 1 <= first < last:
        raise BadInput(f"decay is fitted from i={first} to i={last}; it needs 1 <= first < last")
    p = at_least_float32(p).sort(-1, descending=True).values
    # what rounding leaves of a zero is no eigenvalue
    least = 16 * p.shape[-1] * torch.finfo(p.dtype).eps * p[..., :1]
    values = p[..., first - 1 : last]
    x = torch.arange(first, first + values.shape[-1], device=p.device, dtype=p.dtype).log()
    fine = values > least
    n = fine.sum(-1, keepdim=True).to(values.dtype)
    y = torch.where(fine, values, 1.0).log()
    x = torch.where(fine, x - torch.where(fine, x, 0.0).sum(-1, keepdim=True) / n, 0.0)
    y = torch.where(fine, y - torch.where(fine, y, 0.0).sum(-1, keepdim=True) / n, 0.0)
    slope = (x * y).sum(-1) / (x * x).sum(-1)
    rest = (y - slope.unsqueeze(-1) * x).square().sum(-1)
    enough = n.squeeze(-1) >= 3
    return Slope(
        torch.where(enough, -slope, math.nan), torch.where(enough, 1 - rest / y.square().sum(-1), math.nan)
    )


CONVENTIONS = ("fit", "ml")


def two_nn(vectors: Float[Tensor, "n d"], drop: float = 0.1, convention: str = "fit") -> Float[Tensor, ""]:
    """Intrinsic dimension from the ratio of distances to the second and the first neighbour (TwoNN).

    For points of dimension D that are about equally dense within each neighbourhood the ratio mu follows a Pareto law
    with exponent D: -ln(1 - F(mu)) = D ln mu. `fit`: D is the slope through the origin over all but the `drop` largest
    ratios. `ml`: D = n / sum ln mu, the maximum of the likelihood over all of them. Of equal points one is kept. NaN
    with fewer than 10 points left.

    Raises:
        UnknownName: for another convention.
    """
    if convention not in CONVENTIONS:
        raise UnknownName("convention of TwoNN", convention, CONVENTIONS)
    vectors = at_least_float32(vectors).unique(dim=0)
    distance = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(torch.inf)
    if distance.shape[-1] < 3:
        return distance.new_tensor(math.nan)
    near = distance.topk(2, dim=-1, largest=False).values
    x = (near[:, 1] / near[:, 0])[near[:, 0] > 0].log().sort().values
    return _slope(x, drop) if convention == "fit" else _likeliest(x)


def _likeliest(x: Tensor) -> Tensor:
    return len(x) / x.sum() if len(x) >= 10 else x.new_tensor(math.nan)


def _slope(x: Tensor, drop: float) -> Tensor:
    kept = int(len(x) * (1 - drop))
    if kept < 10:
        return x.new_tensor(math.nan)
    share = torch.arange(1, kept + 1, device=x.device, dtype=x.dtype) / len(x)
    x, y = x[:kept], -torch.log1p(-share)
    return (x * y).sum() / (x * x).sum()


LAWS = (
    Law(entropy_rank, ("non_negative", "scale_free", "permutation_free", "batch_free")),
    Law(stable_rank, ("scale_free", "permutation_free")),
    Law(held_rank, ("non_negative", "permutation_free", "batch_free")),
    Law(rankme, ("non_negative", "scale_free", "permutation_free", "batch_free")),
    Law(decay, ("scale_free", "permutation_free", "batch_free"), {"first": 1, "last": 4}),
    Law(two_nn, ("scale_free", "rotation_free")),
    Law(two_nn, ("scale_free", "rotation_free"), {"convention": "ml"}),
)
