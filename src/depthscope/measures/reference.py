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
from depthscope.measures.precision import at_least_float32
from depthscope.measures.spectrum import prepare
from depthscope.measures.threads import one_thread


def reference_spectrum(
    vectors: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch side"]:
    """Eigenvalues after `wei` and clamping (`ref_clamp`): of max(Z Z^T, 0), or of max(Z^T Z, 0) where n > d.

    Clamped entry by entry the matrix may be indefinite; negative eigenvalues are dropped and the rest sum to 1, largest
    first, zeros behind. side = token. NaN with fewer than 2 rows left. Entropies of it are never below what the paper's
    formula gives by much and usually above.
    """
    rows = prepare(vectors.double(), mask, "wei")
    return _clamped(rows, mask.sum(-1))


def paired_spectrum(vectors: Float[Tensor, "n d"]) -> Float[Tensor, " side"]:
    """`reference_spectrum` of one vector a text where only each pair of neighbours is centred (`batch2`).

    A pair becomes u and -u, whatever the texts say. An odd last vector vanishes.
    """
    pairs = torch.nn.functional.pad(vectors.double(), (0, 0, 0, len(vectors) % 2)).unflatten(0, (-1, 2))
    mask = torch.ones(pairs.shape[:2], dtype=torch.bool, device=vectors.device)
    if len(vectors) % 2:
        mask[-1, -1] = False
    rows = prepare(pairs, mask, "wei").flatten(0, 1)[: len(vectors)]
    return _clamped(rows.unsqueeze(0), torch.tensor([len(vectors)], device=vectors.device))[0]


def _clamped(rows: Tensor, n: Tensor) -> Tensor:
    found = rows.new_full(rows.shape[:2], math.nan)
    wide = n <= rows.shape[-1]
    for chosen, turned in ((wide, rows), (~wide, rows.mT)):
        if not chosen.any():
            continue
        side = at_least_float32(turned[chosen])
        gram = (side @ side.mT).clamp_min(0)
        with one_thread():
            values = torch.linalg.eigvalsh(gram).flip(-1).clamp_min(0)
        values = torch.nn.functional.pad(values, (0, max(0, rows.shape[1] - values.shape[-1])))
        found[chosen] = values[:, : rows.shape[1]] / values.sum(-1, keepdim=True)
    live = (rows != 0).any(-1).sum(-1)
    return torch.where((live > 1).unsqueeze(-1), found, math.nan)


LAWS = (
    Law(reference_spectrum, ("non_negative", "bounded_by_one", "scale_free", "batch_free", "padding_free")),
    Law(paired_spectrum, ("non_negative", "bounded_by_one", "scale_free")),
)
