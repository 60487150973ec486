"""Pooling: one vector of a text out of the vectors of its tokens."""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.errors import UnknownName
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32

Pooling = Literal["mean", "last", "first", "weighted_mean", "mean_no_first", "mean_no_massive"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
MASSIVE = 10.0
"""A token is massive where its norm exceeds this many times the median norm of its text and state."""


def pool(
    vectors: Float[Tensor, "*state batch token d"],
    mask: Bool[Tensor, "batch token"],
    pooling: str,
    massive: Bool[Tensor, "*state batch token"] | None = None,
) -> Float[Tensor, "*state batch d"]:
    """One vector a row: sum of w_t x_t over sum of w_t, with weights w_t of the real tokens t = 1..T.

    mean: w = 1. last, first: 1 at that token, else 0. weighted_mean: w_t = t (Muennighoff 2022, SGPT). mean_no_first:
    0 at the first token, else 1. mean_no_massive: 0 at massive tokens, else 1. Where no token has a weight (an empty
    text; one token and mean_no_first) the vector is zero. Computed in float32 or more.

    Args:
        massive: the massive tokens, if not those of `massive_tokens`.

    Raises:
        UnknownName: for an unknown pooling.
    """
    vectors = at_least_float32(vectors)
    if pooling == "mean_no_massive":
        kept = mask & ~(massive_tokens(vectors, mask) if massive is None else massive)
        weights = kept.to(vectors)
    else:
        weights = _weights(mask, pooling).to(vectors)
    total = weights.sum(-1, keepdim=True)
    return torch.where(
        total > 0, torch.einsum("...t,...td->...d", weights, vectors) / total.clamp_min(1.0), 0.0
    )


def massive_tokens(
    vectors: Float[Tensor, "*state batch token d"], mask: Bool[Tensor, "batch token"], ratio: float = MASSIVE
) -> Bool[Tensor, "*state batch token"]:
    """Real tokens whose norm exceeds `ratio` times the (lower) median norm of the real tokens of their row."""
    norms = torch.linalg.vector_norm(at_least_float32(vectors), dim=-1)
    median = torch.where(mask, norms, torch.nan).nanmedian(-1, keepdim=True).values
    return mask & (norms > ratio * median)


def _weights(mask: Tensor, pooling: str) -> Tensor:
    """Weights of each token, [row token]."""
    place = mask.cumsum(-1) * mask
    match pooling:
        case "mean":
            return mask
        case "last":
            return mask & (place == place.amax(-1, keepdim=True))
        case "first":
            return place == 1
        case "weighted_mean":
            return place
        case "mean_no_first":
            return place > 1
        case _:
            raise UnknownName("pooling", pooling, POOLINGS)


LAWS = (
    Law(pool, ("padding_free", "token_order_free"), {"pooling": "mean", "massive": None}),
    Law(pool, ("padding_free",), {"pooling": "last", "massive": None}),
    Law(pool, ("padding_free",), {"pooling": "first", "massive": None}),
    Law(pool, ("padding_free",), {"pooling": "weighted_mean", "massive": None}),
    Law(pool, ("padding_free",), {"pooling": "mean_no_first", "massive": None}),
    Law(pool, ("padding_free", "token_order_free"), {"pooling": "mean_no_massive", "massive": None}),
    Law(massive_tokens, ("scale_free",)),
)
