"""Subspaces: how far two linear spans are apart, direction by direction."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def principal_angles(
    first: Float[Tensor, "*pairs k d"], second: Float[Tensor, "*pairs k d"]
) -> Float[Tensor, "*pairs angle"]:
    """The angles between the spans of two sets of k rows, ascending, 0 to pi / 2, in radians; min(k, d) of them.

    Cosines are the singular values of the product of orthonormal bases; where a cosine is near 1 the angle is taken
    from its sine, the singular values of what one basis has outside the other, because there half the digits of the
    cosine say nothing.

    Source: Bjorck and Golub 1973.
    """
    one, two = (torch.linalg.qr(at_least_float32(rows).mT).Q.mT for rows in (first, second))
    product = two @ one.mT
    cosine = torch.linalg.svdvals(product).clamp(0.0, 1.0)
    sine = torch.linalg.svdvals(two - product @ one).clamp(0.0, 1.0).flip(-1)
    return torch.where(cosine > math.sqrt(0.5), torch.asin(sine), torch.acos(cosine))


LAWS = (
    Law(
        principal_angles,
        ("non_negative", "zero_on_equal", "symmetric", "scale_free", "rotation_free", "permutation_free"),
    ),
)
