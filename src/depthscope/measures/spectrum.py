"""Entropies and ranks of the spectrum of a set of vectors.

The vectors of one prompt (or of one set of prompts) form Z [n, d]. The eigenvalues of Z Z^T, normalised to
sum 1, are a distribution p; its entropy says over how many directions the vectors spread. Z Z^T and Z^T Z
share their non-zero eigenvalues, so the smaller one is solved, and rows of zeros (padding) only add zeros:
prompts of different lengths are solved in one batch. Sources: Wei et al. 2024 (matrix entropy of centred unit
rows); Skean et al. 2025 (Layer by Layer), eq. 1; Roy and Vetterli 2007 (effective rank); Giraldo et al. 2015
(Renyi entropies of Gram matrices).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.errors import BadInput, UnknownName
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32
from depthscope.threads import one_thread

MODES = ("wei", "uncentred", "unit", "centred")
NORMALISATIONS = ("raw", "logN", "logD", "logNlogD", "maxEntropy", "maxRank")
CENTRED_MODES = ("wei", "centred")

VANISHED = 1e-4
"""A centred row shorter than this share of the RMS norm counts as zero (rounding of equal rows)."""
VANISHED_OF = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""The same for rows that were computed in a shorter format, whose rounding is larger."""


def prepare(
    vectors: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"], mode: str
) -> Float[Tensor, "batch token d"]:
    """The vectors after centring and scaling, masked rows zero whatever they held.

    Modes: `uncentred` none; `unit` rows to norm 1; `centred` minus the mean of the valid rows; `wei` centred,
    then rows to norm 1. In the centred modes a row that vanishes (norm after centring < 1e-4 x the RMS norm
    of the valid rows before it; 1e-2 in bfloat16) becomes zero. Zero rows stay zero. One massive token dominates the
    mean in `wei` and the spectrum in `uncentred`: report modes side by side, with and without sinks.

    Raises:
        UnknownName: the mode is not one of `MODES`.
    """
    _require("spectrum mode", mode, MODES)
    rows = torch.where(mask.unsqueeze(-1), at_least_float32(vectors), 0.0)
    if mode in CENTRED_MODES:
        rows = _centre(rows, mask, VANISHED_OF.get(vectors.dtype, VANISHED))
    return torch.nn.functional.normalize(rows, dim=-1, eps=1e-12) if mode in ("wei", "unit") else rows


def gram_eigenvalues(vectors: Float[Tensor, "batch token d"]) -> Float[Tensor, "batch side"]:
    """Eigenvalues of the Gram matrix, largest first, normalised to sum 1; side = min(token, d).

    Shape: one row per item; rows of zeros in the input give zeros at the end. NaN throughout an item that is
    all zero or not finite, without harm to the others. Precision follows the input: eigenvalues are exact to
    about eps of their sum, so pass float64 before taking roots of small ones (`effective_rank`).

    Raises:
        ValueError: an eigenvalue is negative beyond rounding (-max(token, d) x eps x the largest), which a
        true Gram
            matrix cannot have: something reduced the precision of the product.
    """
    gram = _smaller_gram(vectors)
    finite = gram.isfinite().all(-1).all(-1)
    with one_thread():
        values = torch.linalg.eigvalsh(torch.where(finite[:, None, None], gram, 0.0)).flip(-1)
    values = _without_rounding(values, size=max(vectors.shape[-2:]))
    return torch.where(finite[:, None], values / values.sum(-1, keepdim=True), math.nan)


def renyi_entropy(p: Float[Tensor, "*items n"], alpha: float = 1.0) -> Float[Tensor, "*items"]:
    """Renyi entropy of order alpha of a distribution, in nats: ln(sum_i p_i^alpha) / (1 - alpha).

    alpha = 1 (within 1e-6) is Shannon's -sum p ln p; alpha = inf is -ln max p; alpha = 0 is ln of the
    numerical rank, entries above n x eps x the largest. Range 0 .. ln n; does not increase
    with alpha. NaN entries give NaN. `p` is taken to sum to 1. Below alpha = 1 the rounding of
    zero eigenvalues enters as eps^alpha: use float64. Source: Renyi 1961.

    Raises:
        BadInput: alpha is negative or NaN.
    """
    if not alpha >= 0:
        raise BadInput(f"renyi_entropy has orders alpha >= 0 (math.inf included), got alpha={alpha}")
    p = at_least_float32(p)
    if abs(alpha - 1) < 1e-6:
        value = torch.special.entr(p).sum(-1)
    elif alpha == math.inf:
        value = -p.amax(-1).log()
    elif alpha == 0:
        value = _numerical_rank(p).log()
    else:
        value = p.pow(alpha).sum(-1).log() / (1 - alpha)
    return value.clamp_min(0)


def s2_entropy(vectors: Float[Tensor, "batch token d"]) -> Float[Tensor, " batch"]:
    """Renyi entropy of order 2 of the Gram spectrum, in nats, without eigenvalues: 2 ln tr K - ln ||K||_F^2.

    K is Z Z^T or Z^T Z, whichever is smaller. Range 0 .. ln min(token, d). NaN where all vectors are zero.
    Equals renyi_entropy(gram_eigenvalues(Z), 2).
    """
    gram = _smaller_gram(vectors)
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (2 * trace.log() - 2 * torch.linalg.matrix_norm(gram).log()).clamp_min(0)


def prompt_entropy(
    vectors: Float[Tensor, "batch token d"],
    mask: Bool[Tensor, "batch token"],
    mode: str = "wei",
    alpha: float = 1.0,
    normalisation: str = "maxEntropy",
) -> Float[Tensor, " batch"]:
    """Entropy of the spectrum of each prompt's token vectors: low = compressed into few directions.

    S_alpha of the Gram spectrum after `prepare`, divided by: `raw` 1 (nats); `logN` ln n; `logD` ln d;
    `logNlogD` ln n x ln d; `maxEntropy` ln min(n, d); `maxRank` the log of the largest possible rank, which
    centring lowers to min(n - 1, d). n counts the rows left non-zero, so padding and vanished rows do not.
    `maxEntropy` and `maxRank` lie in 0 .. 1. NaN with fewer than 2 non-zero rows, or where the divisor is 0
    (d = 1; two centred rows under `maxRank`). Source: Skean et al. 2025, section 3; `maxRank` is ours.

    Raises:
        UnknownName: the mode or normalisation is not known.
        BadInput: alpha is negative.
    """
    rows = prepare(vectors, mask, mode)
    n = (rows != 0).any(-1).sum(-1)
    value = s2_entropy(rows) if alpha == 2 else renyi_entropy(gram_eigenvalues(rows), alpha)
    divisor = log_bound(n, rows.shape[-1], normalisation, centred=mode in CENTRED_MODES).to(value.dtype)
    return torch.where((n < 2) | (divisor <= 0), math.nan, value / divisor)


def log_bound(
    n: Int[Tensor, "*items"], d: int, normalisation: str = "maxEntropy", *, centred: bool = False
) -> Float[Tensor, "*items"]:
    """What the entropy of n rows of width d is divided by under a normalisation of `prompt_entropy`; float64.

    Raises:
        UnknownName: the normalisation is not known.
    """
    _require("entropy normalisation", normalisation, NORMALISATIONS)
    log_n, log_d = n.double().log(), math.log(d)
    if normalisation == "maxRank":
        return (n.double() - int(centred)).log().clamp_max(log_d)
    if normalisation in ("raw", "logD"):
        return torch.full_like(log_n, 1.0 if normalisation == "raw" else log_d)
    if normalisation == "logNlogD":
        return log_n * log_d
    return log_n if normalisation == "logN" else log_n.clamp_max(log_d)


def effective_rank(p: Float[Tensor, "*items n"]) -> Float[Tensor, "*items"]:
    """Effective rank exp(S_1) of the singular values, sigma_i / sum sigma with sigma = sqrt(lambda).

    `p` are eigenvalues (any positive multiple, for instance of `gram_eigenvalues`). Range 1 .. n. Never below
    exp(S_1) of the eigenvalues themselves, which squaring concentrates. Rounding of lambda enters as its
    root: use float64. Source: Roy and Vetterli 2007, definition 1.
    """
    sigma = at_least_float32(p).sqrt()
    return torch.special.entr(sigma / sigma.sum(-1, keepdim=True)).sum(-1).exp()


def participation_ratio(p: Float[Tensor, "*items n"]) -> Float[Tensor, "*items"]:
    """How many equal eigenvalues are as spread, (sum lambda)^2 / sum lambda^2 = exp(S_2). Range 1 .. n."""
    p = at_least_float32(p)
    return p.sum(-1).square() / p.square().sum(-1)


def _centre(rows: Tensor, mask: Tensor, vanished: float) -> Tensor:
    """Rows minus their mean over the valid ones; vanished and masked rows zero."""
    n = mask.sum(-1).clamp_min(1)[:, None, None]
    centred = torch.where(mask.unsqueeze(-1), rows - rows.sum(-2, keepdim=True) / n, 0.0)
    rms = (rows.square().sum((-2, -1), keepdim=True) / n).sqrt()
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    return torch.where(length < vanished * rms, 0.0, centred)


def _smaller_gram(vectors: Tensor) -> Tensor:
    """Z Z^T or Z^T Z, whichever is smaller, of Z scaled to largest entry 1 so that no square overflows."""
    vectors = at_least_float32(vectors)
    largest = vectors.abs().amax((-2, -1), keepdim=True)
    vectors = vectors / largest.clamp_min(torch.finfo(vectors.dtype).tiny)
    return vectors @ vectors.mT if vectors.shape[-2] <= vectors.shape[-1] else vectors.mT @ vectors


def _without_rounding(values: Tensor, size: int) -> Tensor:
    """Eigenvalues (largest first) with negative ones set to zero, if rounding explains them."""
    allowed = size * torch.finfo(values.dtype).eps * values[:, :1]
    if (values < -allowed).any():
        worst = (values[:, -1] / values[:, 0]).min().item()
        raise ValueError(
            f"a Gram matrix has no negative eigenvalues, found {worst:.2e} of the largest in {values.dtype} "
            f"(size {size}): compute it in full float32 (TF32 off) or float64"
        )
    return values.clamp_min(0)


def _numerical_rank(p: Tensor) -> Tensor:
    noise = p.shape[-1] * torch.finfo(p.dtype).eps * p.amax(-1, keepdim=True)
    return torch.where(p.isnan().any(-1), math.nan, (p > noise).sum(-1).to(p.dtype))


def _require(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UnknownName(what, given, known)


_SPREAD = ("non_negative", "scale_free", "rotation_free", "token_order_free", "padding_free", "batch_free")
LAWS = (
    Law(prepare, ("padding_free", "batch_free"), {"mode": "wei"}),
    Law(prepare, ("padding_free", "batch_free", "scale_free", "bounded_by_one"), {"mode": "unit"}),
    Law(gram_eigenvalues, ("non_negative", "bounded_by_one", "scale_free", "rotation_free", "batch_free")),
    Law(renyi_entropy, ("non_negative", "at_most_log_n", "permutation_free", "batch_free")),
    Law(renyi_entropy, ("non_negative", "at_most_log_n", "permutation_free"), {"alpha": 0.0}),
    Law(renyi_entropy, ("non_negative", "at_most_log_n", "permutation_free"), {"alpha": math.inf}),
    Law(s2_entropy, ("non_negative", "at_most_log_n", "scale_free", "rotation_free", "batch_free")),
    Law(prompt_entropy, (*_SPREAD, "bounded_by_one")),
    Law(prompt_entropy, (*_SPREAD, "bounded_by_one"), {"normalisation": "maxRank"}),
    Law(prompt_entropy, (*_SPREAD, "at_most_log_n"), {"mode": "uncentred", "normalisation": "raw"}),
    Law(prompt_entropy, (*_SPREAD, "at_most_log_n"), {"mode": "unit", "alpha": 2.0, "normalisation": "raw"}),
    Law(
        prompt_entropy, (*_SPREAD, "at_most_log_n"), {"mode": "centred", "alpha": 3.0, "normalisation": "raw"}
    ),
    Law(log_bound, ("batch_free",), {"d": 7}),
    Law(effective_rank, ("non_negative", "scale_free", "permutation_free", "batch_free")),
    Law(participation_ratio, ("non_negative", "scale_free", "permutation_free", "batch_free")),
)
