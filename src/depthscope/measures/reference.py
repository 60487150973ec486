"""Forms that published code computes and its paper does not say; for reproducing its numbers, for nothing else.

The code that goes with Skean et al. 2025 (arXiv 2502.02013) sets negative entries of a Gram matrix to zero before it
takes eigenvalues, so that rows and columns no longer share a spectrum; takes the side by whether there are more rows
than dimensions; and, for one vector a text, centres within pairs of texts, since its batches hold two.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.spectrum import prepare
from depthscope.threads import one_thread


def reference_spectrum(
    vectors: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch token"]:
    """`clamped_spectrum` of centred unit rows (`ref_clamp`), which the published code takes for prompts."""
    return clamped_spectrum(prepare(vectors.double(), mask, "wei"), mask)


def paired_spectrum(vectors: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """`clamped_spectrum` of one vector a text where each pair of neighbours is centred by itself (`batch2`).

    A pair becomes u and -u, whatever the texts say. An odd last vector vanishes.
    """
    vectors = vectors.double()
    pairs = torch.nn.functional.pad(vectors, (0, 0, 0, len(vectors) % 2)).unflatten(0, (-1, 2))
    mask = torch.ones(pairs.shape[:2], dtype=torch.bool, device=vectors.device)
    mask[-1, -1] = len(vectors) % 2 == 0
    rows = prepare(pairs, mask, "wei").flatten(0, 1)[: len(vectors)]
    return clamped_spectrum(rows.unsqueeze(0), (rows != 0).any(-1).unsqueeze(0))[0]


def clamped_spectrum(
    vectors: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch token"]:
    """Eigenvalues of max(Z Z^T, 0), or of max(Z^T Z, 0) where more than d rows count, entry by entry.

    The clamped matrix may be indefinite: negative eigenvalues are dropped and the rest sum to 1, largest first, zeros
    behind. NaN with fewer than 2 rows that are not zero.
    """
    rows = torch.where(mask.unsqueeze(-1), vectors.double(), 0.0)
    width, wide = rows.shape[1], mask.sum(-1) <= rows.shape[-1]
    found = rows.new_full(rows.shape[:2], math.nan)
    for chosen, side in ((wide, rows), (~wide, rows.mT)):
        if chosen.any():
            gram = (side[chosen] @ side[chosen].mT).clamp_min(0)
            with one_thread():
                values = torch.linalg.eigvalsh(gram).flip(-1).clamp_min(0)
            values = torch.nn.functional.pad(values, (0, max(0, width - values.shape[-1])))[:, :width]
            found[chosen] = values / values.sum(-1, keepdim=True)
    live = (rows != 0).any(-1).sum(-1)
    return torch.where((live > 1).unsqueeze(-1), found, math.nan)


LAWS = (
    Law(reference_spectrum, ("non_negative", "bounded_by_one", "scale_free", "batch_free", "padding_free")),
    Law(clamped_spectrum, ("non_negative", "bounded_by_one", "scale_free", "batch_free", "padding_free")),
    Law(paired_spectrum, ("non_negative", "bounded_by_one", "scale_free")),
)
