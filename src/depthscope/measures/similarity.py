"""Similarity: how alike two sets of vectors of the same texts are, whatever their width and their axes.

Everything is computed from Gram matrices [text, text], so vectors of any two widths can be compared, and all pairs of
states at once. Sources: Kornblith et al. 2019 (linear CKA); Song et al. 2012 and Szekely and Rizzo 2014 (unbiased
centring); Ding et al. 2021 (Procrustes distance of representations); Raghu et al. 2017 (SVCCA).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32
from depthscope.threads import one_thread

ROUNDING = 1e-10
"""Eigenvalues of a Gram matrix below this share of the largest count as zero."""


def grams(states: Float[Tensor, "state text d"]) -> Float[Tensor, "state text text"]:
    """Gram matrix of each state's vectors minus their mean, in float64. Invariant to rotations and shifts of a state.

    Vectors are centred before the product: a mean that is large beside the differences would leave rounding otherwise.
    """
    vectors = at_least_float32(states).double()
    vectors = vectors - vectors.mean(1, keepdim=True)
    return vectors @ vectors.mT


def cka(
    first: Float[Tensor, "first text text"], second: Float[Tensor, "second text text"]
) -> Float[Tensor, "first second"]:
    """Linear CKA of all pairs of Gram matrices by one matrix product: <K, L> / (|K| |L|) after centring.

    Range 0 to 1 for Gram matrices; 1 for vectors that are equal up to rotation and scale. Biased upwards where there
    are fewer texts than dimensions: unrelated vectors then look alike (see `debiased_cka`). NaN where all vectors of a
    state are equal.
    """
    return _cosines(_centred(first), _centred(second))


def debiased_cka(
    first: Float[Tensor, "first text text"], second: Float[Tensor, "second text text"]
) -> Float[Tensor, "first second"]:
    """Linear CKA with the unbiased estimate of HSIC: about 0 for unrelated vectors whatever their width.

    The Gram matrices are centred without their diagonals: K_ij - (row_i + row_j) / (n - 2) + total / ((n - 1)(n - 2)),
    0 on the diagonal. Range -1 to 1, 1 for vectors that are equal up to rotation and scale. NaN with fewer than 4 texts
    or where all vectors of a state are equal.
    """
    return _cosines(_without_diagonal(first), _without_diagonal(second))


def knn_overlap(
    first: Float[Tensor, "first text text"], second: Float[Tensor, "second text text"], k: int = 10
) -> Float[Tensor, "text first second"]:
    """Of each text the Jaccard overlap of its k nearest texts in two states, by distance; mean over texts is the index.

    Range 0 to 1. Knows nothing of what single long directions do to products. Of equal distances the first texts are
    taken.

    Raises:
        BadInput: where there are no k other texts.
    """
    n = first.shape[-1]
    if not 0 < k < n:
        raise BadInput(
            f"{k} nearest neighbours need at least {k + 1} texts and k at least 1, found {n} texts"
        )
    a, b = _neighbours(first, k), _neighbours(second, k)
    shared = torch.einsum("snm,tnm->nst", a, b)
    return shared / (2 * k - shared)


def knn_chance(texts: int, k: int = 10) -> float:
    """Jaccard overlap that unrelated neighbours have on average: the mean over the hypergeometric number shared."""
    n = texts - 1
    ways = [math.comb(k, s) * math.comb(n - k, k - s) if k - s <= n - k else 0 for s in range(k + 1)]
    return sum(w * s / (2 * k - s) for s, w in enumerate(ways)) / math.comb(n, k)


def procrustes_distance(
    first: Float[Tensor, "first text text"], second: Float[Tensor, "second text text"]
) -> Float[Tensor, "first second"]:
    """Distance of all pairs after centring, scaling to norm 1 and the best rotation: sqrt(2 - 2 ||X^T Y||_*).

    Range 0 to sqrt 2; a metric. From Gram matrices: with K = U S^2 U^T the nuclear norm is that of S_x U_x^T U_y S_y.
    NaN where all vectors of a state are equal.
    """
    left = _roots(first)
    right = left if second is first else _roots(second)
    return _each_pair(left, right, _rotated_distance)


def svcca(
    first: Float[Tensor, "first text text"],
    second: Float[Tensor, "second text text"],
    share: float = 0.99,
    most: int = 0,
) -> Float[Tensor, "first second"]:
    """Mean canonical correlation of the leading directions that hold `share` of each state's variance, all pairs.

    Range 0 to 1. Random directions correlate where they are many beside the texts: `most` bounds how many are kept (0:
    no bound); a fifth of the texts is sound. NaN where all vectors of a state are equal.

    Raises:
        BadInput: for a share outside (0, 1].
    """
    left = _leading(first, share, most)
    right = left if second is first else _leading(second, share, most)
    return _each_pair(left, right, _mean_correlation)


def svcca_kept(
    first: Float[Tensor, "first text text"], share: float = 0.99, most: int = 0
) -> Float[Tensor, " first"]:
    """How many directions of each state `svcca` keeps; 0 where all vectors are equal."""
    return torch.tensor([float(axes.shape[1]) for axes in _leading(first, share, most)], dtype=torch.float64)


def _each_pair(
    left: list[Tensor], right: list[Tensor], measure: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """A symmetric measure of all pairs, taken once of each where the sides are one; NaN where one has no direction."""
    found = torch.full((len(left), len(right)), math.nan, dtype=torch.float64)
    with one_thread():
        for row, x in enumerate(left):
            for column, y in enumerate(right):
                if right is left and column < row:
                    found[row, column] = found[column, row]
                elif x.numel() and y.numel():
                    found[row, column] = measure(x, y)
    return found


def _rotated_distance(x: Tensor, y: Tensor) -> Tensor:
    return (2 - 2 * torch.linalg.svdvals(x.mT @ y).sum()).clamp_min(0).sqrt()


def _mean_correlation(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.svdvals(x.mT @ y).clamp(0, 1).mean()


def _centred(gram: Tensor) -> Tensor:
    gram = at_least_float32(gram).double()
    return (
        gram - gram.mean(-1, keepdim=True) - gram.mean(-2, keepdim=True) + gram.mean((-2, -1), keepdim=True)
    )


def _without_diagonal(gram: Tensor) -> Tensor:
    n = gram.shape[-1]
    if n < 4:
        return torch.full_like(gram, math.nan, dtype=torch.float64)
    own = torch.eye(n, dtype=torch.bool, device=gram.device)
    gram = at_least_float32(gram).double().masked_fill(own, 0.0)
    rows, columns = gram.sum(-1, keepdim=True) / (n - 2), gram.sum(-2, keepdim=True) / (n - 2)
    total = gram.sum((-2, -1), keepdim=True) / ((n - 1) * (n - 2))
    return (gram - rows - columns + total).masked_fill(own, 0.0)


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of all pairs of flattened matrices."""
    a, b = first.flatten(1), second.flatten(1)
    lengths = [torch.linalg.vector_norm(m, dim=-1) for m in (a, b)]
    found = (a @ b.mT) / lengths[0][:, None] / lengths[1]
    return torch.where((lengths[0][:, None] > 0) & (lengths[1] > 0), found.clamp(-1, 1), math.nan)


def _neighbours(gram: Tensor, k: int) -> Tensor:
    """1 at the k nearest other texts of each text, else 0."""
    gram = at_least_float32(gram).double()
    own = gram.diagonal(dim1=-2, dim2=-1)
    distance = own[:, None] - 2 * gram  # of each row, up to a constant
    distance.diagonal(dim1=-2, dim2=-1).fill_(math.inf)
    near = distance.sort(dim=-1, stable=True).indices[..., :k]
    return torch.zeros_like(distance).scatter_(-1, near, 1.0)


def _solved(gram: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Eigenvalues, largest first, and eigenvectors of each centred Gram matrix, those that are zero left out."""
    centred = _centred(gram)
    with one_thread():
        values, axes = torch.linalg.eigh((centred + centred.mT) / 2)
    values, axes = values.flip(-1), axes.flip(-1)
    kept = [(v > ROUNDING * v[0]) & (v > 0) for v in values]
    return [(v[k], a[:, k]) for v, a, k in zip(values, axes, kept, strict=True)]


def _roots(gram: Tensor) -> list[Tensor]:
    """U S of each centred Gram matrix scaled to trace 1."""
    return [axes * (values / values.sum()).sqrt() for values, axes in _solved(gram)]


def _leading(gram: Tensor, share: float, most: int) -> list[Tensor]:
    if not 0 < share <= 1:
        raise BadInput(f"svcca keeps a share of the variance above 0 and at most 1, found {share}")
    found: list[Tensor] = []
    for values, axes in _solved(gram):
        # a sum that rounding keeps below its share still counts
        held = int((values.cumsum(0) / values.sum() < share - 1e-9).sum()) + 1
        found.append(axes[:, : min(held, most) if most else held])
    return found


_BOUNDED = ("bounded_by_one", "scale_free")
LAWS = (
    Law(grams, ("shift_free", "rotation_free")),
    Law(cka, (*_BOUNDED, "shift_free")),
    Law(debiased_cka, _BOUNDED),
    Law(knn_overlap, ("non_negative", *_BOUNDED, "shift_free"), {"k": 3}),
    Law(knn_chance, ("non_negative", "bounded_by_one"), {"texts": 9, "k": 3}),
    Law(procrustes_distance, ("non_negative", "scale_free")),
    Law(svcca, ("non_negative", *_BOUNDED)),
    Law(svcca_kept, ("non_negative", "scale_free")),
)
