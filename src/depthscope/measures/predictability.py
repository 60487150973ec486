"""How well vectors are predicted: R2 in four definitions, from sums that add up.

R2 = 1 - squared errors / squares about a centre. Which centre decides what is rewarded: on states with one large
constant dimension the mean alone has R2 near 1 by one definition and 0 by another, so the definition belongs to the
number.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.errors import UnknownName
from depthscope.measures.laws import Law

DEFINITIONS = ("dim", "element", "uniform", "position")
"""Centres: the mean of each dimension; one number for all entries; of each dimension, R2 taken alone and averaged; the
mean of each dimension at each position."""


class Sums(NamedTuple):
    """Sums over items in groups (positions, or units), in float64; they add up over batches.

    items [*draw group]; total, squares, errors [*draw group d]: sums of h, of h^2 and of (h - guess)^2.
    """

    items: Tensor
    total: Tensor
    squares: Tensor
    errors: Tensor


def sums_of(
    h: Float[Tensor, "item position d"],
    guess: Float[Tensor, "item position d"],
    kept: Bool[Tensor, "item position"],
) -> Sums:
    """The sums of a batch by position, over the items where `kept` is True."""
    at = kept[..., None]
    wide = torch.where(at, h.double(), 0.0)
    errors = torch.where(at, (h.double() - guess.double()).square(), 0.0)
    return Sums(kept.sum(0).double(), wide.sum(0), wide.square().sum(0), errors.sum(0))


def r_squared(
    items: Float[Tensor, "*draw group"],
    total: Float[Tensor, "*draw group d"],
    squares: Float[Tensor, "*draw group d"],
    errors: Float[Tensor, "*draw group d"],
    definition: str = "dim",
) -> Float[Tensor, "*draw"]:
    """R2 over all groups: at most 1, 0 for the centre, below 0 where the guess is worse. NaN where nothing varies.

    - "dim": 1 - sum errors / sum_d sum (h_d - mean_d)^2; the mean of all items scores 0.
    - "element": squares about one number, the mean of all entries; rewards knowing which dimensions are large.
    - "uniform": the mean over dimensions of each one's own R2; dimensions that do not vary are left out.
    - "position": squares about the mean of each dimension in each group; groups are positions.

    Raises:
        UnknownName: for another definition.
    """
    if definition not in DEFINITIONS:
        raise UnknownName("definition of R2", definition, DEFINITIONS)
    if definition == "position":
        about = _about(items, total, squares)
        return 1 - _over(errors.sum((-1, -2)), about.sum((-1, -2)))
    n, first, second, wrong = items.sum(-1), total.sum(-2), squares.sum(-2), errors.sum(-2)
    if definition == "element":
        entries = n * total.shape[-1]
        about = second.sum(-1) - _over(first.sum(-1).square(), entries)
        return 1 - _over(wrong.sum(-1), about)
    about = _about(n, first, second)
    if definition == "dim":
        return 1 - _over(wrong.sum(-1), about.sum(-1))
    return (1 - _over(wrong, about)).nanmean(-1)


def mean_squared_error(
    items: Float[Tensor, "*draw group"], errors: Float[Tensor, "*draw group d"]
) -> Float[Tensor, "*draw"]:
    """Squared error a dimension, in squared units of the states; NaN without items."""
    return _over(errors.sum((-1, -2)), items.sum(-1) * errors.shape[-1])


def narrow(
    items: Float[Tensor, " group"],
    total: Float[Tensor, "group d"],
    squares: Float[Tensor, "group d"],
    wide: int = 3,
) -> Bool[Tensor, " d"]:
    """True at all but the `wide` dimensions of the highest variance."""
    variance = _about(items.sum(-1), total.sum(-2), squares.sum(-2))
    kept = torch.ones(len(variance), dtype=torch.bool, device=variance.device)
    kept[variance.argsort(descending=True, stable=True)[:wide]] = False
    return kept


def _about(count: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """Squares about the mean of each dimension, 0 where rounding would leave less."""
    about = squares - _over(total.square(), count[..., None])
    about = torch.where(count[..., None] > 0, about, 0.0)
    return torch.where(about > 1e-12 * squares, about, 0.0)


def _over(top: Tensor, bottom: Tensor) -> Tensor:
    return torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1.0), torch.nan)


LAWS = (
    Law(sums_of, ()),
    Law(r_squared, ()),
    Law(mean_squared_error, ()),
    Law(narrow, (), {"wide": 1}),
)
