"""Measures of predicted distributions, from full logits (last axis = vocabulary).

This is the reference: plain, whole rows at once. The streamed decode must agree with it. A logit of -inf
marks a vocabulary row that does not exist (padded unembedding) and has probability zero. NaN logits give NaN
in every real- valued measure; `rank`, `ties` and `top1` are integers and cannot say NaN, so count NaN before
calling them. Logits must have been *computed* in float32: upcasting bfloat16 logits here does not untie them.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def entropy(logits: Float[Tensor, "*items vocab"]) -> Float[Tensor, "*items"]:
    """Shannon entropy of the predicted distribution, in nats.

    H = -sum_v p_v ln p_v with p = softmax(logits) and 0 ln 0 = 0. Range 0 .. ln vocab.
    """
    return torch.special.entr(torch.softmax(at_least_float32(logits), dim=-1)).sum(-1)


def kl(
    logits_p: Float[Tensor, "*items vocab"], logits_q: Float[Tensor, "*items vocab"]
) -> Float[Tensor, "*items"]:
    """Kullback-Leibler divergence KL(p || q), in nats.

    sum_v p_v (ln p_v - ln q_v). Range 0 .. inf; inf where q excludes (logit -inf) what p allows. Rounding
    below zero is set to zero. `kl_to_final` of a state is kl(final, state); `reverse_kl_to_final` is
    kl(state, final). Source: Kullback and Leibler 1951; direction as in Belrose et al. 2023 (tuned lens),
    section 3.
    """
    return _relative_entropy(_log_probabilities(logits_p), _log_probabilities(logits_q))


def jensen_shannon(
    logits_p: Float[Tensor, "*items vocab"], logits_q: Float[Tensor, "*items vocab"]
) -> Float[Tensor, "*items"]:
    """Jensen-Shannon divergence, in nats: (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2.

    Symmetric; range 0 .. ln 2, reached by distributions without a common token. Source: Lin 1991.
    """
    log_p, log_q = _log_probabilities(logits_p), _log_probabilities(logits_q)
    log_mixture = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_relative_entropy(log_p, log_mixture) + _relative_entropy(log_q, log_mixture)) / 2


def cross_entropy(
    logits: Float[Tensor, "*items vocab"], target: Int[Tensor, "*items"]
) -> Float[Tensor, "*items"]:
    """Negative log-probability of the target token, in nats.

    ln sum_v exp z_v - z_target. Range 0 .. inf; inf where the target's logit is -inf.
    """
    logits = at_least_float32(logits)
    return torch.logsumexp(logits, dim=-1) - _at(logits, target).squeeze(-1)


def rank(logits: Float[Tensor, "*items vocab"], target: Int[Tensor, "*items"]) -> Int[Tensor, "*items"]:
    """Competition rank of the target token: 1 + #{v != target : z_v > z_target}.

    Range 1 .. vocab, int64. Ties favour the target (see `ties`). The target is excluded by its index, not by
    its value: a target logit gathered from another product than its column may differ in the last bit.
    """
    return 1 + _without_target(logits > _at(logits, target), target).sum(-1)


def ties(logits: Float[Tensor, "*items vocab"], target: Int[Tensor, "*items"]) -> Int[Tensor, "*items"]:
    """Number of other tokens whose logit equals the target's, int64: by so much could its rank be worse."""
    return _without_target(logits == _at(logits, target), target).sum(-1)


def top1(logits: Float[Tensor, "*items vocab"]) -> Int[Tensor, "*items"]:
    """The most probable token, int64; of several equal maxima the lowest id (torch promises the first)."""
    return logits.argmax(-1)


def overlap(ids_a: Int[Tensor, "*items k"], ids_b: Int[Tensor, "*items k"]) -> Float[Tensor, "*items"]:
    """Share of common ids of two top-k lists, |A and B| / k. Range 0 .. 1; order plays no part.

    The ids of one list are taken to be distinct.
    """
    return (ids_a.unsqueeze(-1) == ids_b.unsqueeze(-2)).any(-1).float().mean(-1)


def probability_distance(
    logits_p: Float[Tensor, "*items vocab"], logits_q: Float[Tensor, "*items vocab"]
) -> Float[Tensor, "*items"]:
    """Euclidean distance of two predicted distributions, ||softmax(z_p) - softmax(z_q)||_2.

    Range 0 .. sqrt 2, reached by two certain and different predictions. Unit: probability.
    Source: Csordas et al. 2025, the output measure of the layer-skipping experiment.
    """
    p, q = (torch.softmax(at_least_float32(logits), dim=-1) for logits in (logits_p, logits_q))
    return torch.linalg.vector_norm(p - q, dim=-1)


def _log_probabilities(logits: Tensor) -> Tensor:
    return torch.log_softmax(at_least_float32(logits), dim=-1)


def _relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    p = log_p.exp()
    # Equality with zero, so that NaN stays NaN; -inf minus -inf at absent tokens is never used.
    terms = torch.where(p == 0, 0.0, p * (log_p - log_q))
    return terms.sum(-1).clamp_min(0)


def _at(logits: Tensor, target: Tensor) -> Tensor:
    return logits.gather(-1, target.long().unsqueeze(-1))


def _without_target(chosen: Tensor, target: Tensor) -> Tensor:
    return chosen.scatter(-1, target.long().unsqueeze(-1), value=False)


LAWS = (
    Law(entropy, ("non_negative", "at_most_log_n", "shift_free", "permutation_free", "batch_free")),
    Law(kl, ("non_negative", "zero_on_equal", "shift_free", "permutation_free", "batch_free")),
    Law(
        jensen_shannon,
        (
            "non_negative",
            "zero_on_equal",
            "symmetric",
            "bounded_by_one",
            "shift_free",
            "permutation_free",
            "batch_free",
        ),
    ),
    Law(cross_entropy, ("non_negative", "shift_free", "batch_free")),
    Law(rank, ("non_negative", "shift_free", "scale_free", "batch_free")),
    Law(ties, ("non_negative", "shift_free", "scale_free", "batch_free")),
    Law(top1, ("non_negative", "shift_free", "scale_free", "batch_free")),
    Law(
        overlap,
        ("non_negative", "bounded_by_one", "one_on_equal", "symmetric", "permutation_free", "batch_free"),
    ),
    Law(
        probability_distance,
        ("non_negative", "zero_on_equal", "symmetric", "shift_free", "permutation_free", "batch_free"),
    ),
)
