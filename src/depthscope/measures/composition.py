"""How much of what one head writes another head reads, from their weights alone.

K-composition of a later head with an earlier one is |W_QKᵀ W_OV|_F / (|W_QK|_F |W_OV|_F), the size of their product
over the product of their sizes; Q- and V-composition put the write into queries and values. All norms come from d_head
x d_head products: |Qᵀ X V|_F² = tr(QQᵀ X VVᵀ Xᵀ) for X = K O. Sources: Elhage et al. 2021, A Mathematical Framework for
Transformer Circuits; Gaussian factors of the same shapes are the null.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def composition(
    outer: Float[Tensor, "reader d_read d_model"],
    inner: Float[Tensor, "reader d_read d_model"],
    output: Float[Tensor, "writer d_model d_write"],
    value: Float[Tensor, "writer d_write d_model"],
) -> Float[Tensor, "reader writer"]:
    """|outerᵀ inner W_O W_V|_F / (|outerᵀ inner|_F |W_O W_V|_F) of every reader with every writer, 0 to 1.

    K-composition: outer = W_Q, inner = W_K of the reader. Q-composition: the other way round. Near 1 / sqrt(d_model)
    for random weights. A head of zeros gives NaN.
    """
    outer, inner, output, value = (at_least_float32(x) for x in (outer, inner, output, value))
    left = torch.einsum("rid,rjd->rij", outer, outer)
    right = torch.einsum("wid,wjd->wij", value, value)
    crossed = torch.einsum("rid,wdj->rwij", inner, output)
    top = torch.einsum("rij,rwjk,wkl,rwil->rw", left, crossed, right, crossed)
    reads = torch.einsum("rij,rji->r", left, torch.einsum("rid,rjd->rij", inner, inner))
    writes = torch.einsum("wij,wji->w", right, torch.einsum("wdi,wdj->wij", output, output))
    return (top.clamp_min(0) / (reads[:, None] * writes[None, :])).sqrt()


def null_composition(
    d_model: int, d_read: int, d_write: int, draws: int = 20, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of `composition` for heads whose four factors are Gaussian.

    Raises:
        BadInput: for widths or draws below 1 (2 draws for a deviation).
    """
    if min(d_model, d_read, d_write) < 1 or draws < 2:
        raise BadInput(
            f"widths {d_model}, {d_read}, {d_write} and {draws} draws; widths from 1, draws from 2"
        )
    generator = torch.Generator().manual_seed(seed)

    def factor(*shape: int) -> Tensor:
        return torch.randn(draws, *shape, generator=generator, dtype=torch.float64)

    found = composition(
        factor(d_read, d_model), factor(d_read, d_model), factor(d_model, d_write), factor(d_write, d_model)
    ).flatten()
    return float(found.mean()), float(np.std(found.numpy(), ddof=1))


LAWS = (
    Law(composition, ("non_negative", "bounded_by_one", "scale_free")),
    Law(null_composition, (), {"d_model": 8, "d_read": 2, "d_write": 2}),
)
