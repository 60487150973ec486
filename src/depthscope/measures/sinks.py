"""Which keys swallow attention, which entries of a state are massive, and whether what is drawn from them is a bias.

Sources: Gu et al. 2025 (arXiv 2410.10781), the share of heads that rest on a key; Sun et al. 2024 (2402.17762), massive
activations and the constant they add.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32

MAGNITUDE, RATIO = 100.0, 1000.0
"""An entry is massive above both: this size, and so many medians of its state (Sun et al. 2024, section 2)."""


def key_attention(
    rows: Float[Tensor, "batch head token token"], window: int | None, causal: bool
) -> Float[Tensor, "batch head token"]:
    """alpha_k: mean of A[i, k] over the queries i that can see key k, for rows of all queries 0 .. T-1 in order.

    Causal: i from k on, within a sliding window only i < k + W; an encoder's keys are seen by all queries (within W).
    """
    queries, keys = rows.shape[-2:]
    back = torch.arange(queries, device=rows.device)[:, None] - torch.arange(keys, device=rows.device)
    seen = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
    if window is not None:
        seen = seen & (back.abs() < window)
    return (at_least_float32(rows) * seen).sum(-2) / seen.sum(0)


def share_above(alpha: Float[Tensor, "... head key"], level: float) -> Float[Tensor, "... key"]:
    """Sink_k of one text: the share of heads whose mean attention on key k is above a level."""
    alpha = at_least_float32(alpha)
    return (alpha > level).to(alpha.dtype).mean(-2)


def massive(
    state: Float[Tensor, "batch token d_model"],
    mask: Bool[Tensor, "batch token"],
    magnitude: float = MAGNITUDE,
    ratio: float = RATIO,
) -> Bool[Tensor, "batch token d_model"]:
    """Entries above `magnitude` in size and at least `ratio` times the median size over the text's entries."""
    size = at_least_float32(state).abs()
    return mask[..., None] & (size > magnitude) & (size >= ratio * median_size(state, mask)[:, None, None])


def median_size(
    state: Float[Tensor, "batch token d_model"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, " batch"]:
    """Median of |x| over all real tokens and channels of each text together."""
    size = at_least_float32(state).abs()
    return torch.stack([s[m].median() for s, m in zip(size, mask, strict=True)])


def peak_score(
    state: Float[Tensor, "batch token d_model"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, " batch"]:
    """How many standard deviations ln |x| of the largest entry lies above the mean ln |x| of its text's state.

    Zero entries are left out. About 4 for Gaussian entries; a criterion that does not fail where the median grows.
    """
    found = []
    for one, real in zip(at_least_float32(state).abs(), mask, strict=True):
        logs = one[real][one[real] > 0].log()
        found.append((logs.max() - logs.mean()) / logs.std(correction=0))
    return torch.stack(found)


def bias_constancy(
    rows: Float[Tensor, "batch head query key"],
    value: Float[Tensor, "batch head key d_head"],
    keys: Bool[Tensor, "batch key"],
    queries: Bool[Tensor, "batch query"],
) -> Float[Tensor, "batch head"]:
    """mean_t |u_t - mean u| / |mean u| of what is drawn from some keys, u_t = sum_k A_tk v_k; 0 for a constant bias.

    Source: the constant that massive activations add, Sun et al. 2024, section 4; they give no statistic.

    Args:
        keys: the set. queries: which t count; all of them should see the whole set. NaN with fewer than 2 queries or
            without a key.
    """
    found = torch.full(rows.shape[:2], math.nan, dtype=torch.promote_types(rows.dtype, torch.float32))
    for k in range(len(rows)):
        if not keys[k].any() or int(queries[k].sum()) < 2:
            continue
        u = at_least_float32(rows[k])[:, queries[k]][..., keys[k]] @ at_least_float32(value[k])[:, keys[k]]
        centre = u.mean(1, keepdim=True)
        away = torch.linalg.vector_norm(u - centre, dim=-1).mean(1)
        found[k] = (away / torch.linalg.vector_norm(centre[:, 0], dim=-1)).to(found)
    return found


def same_number(
    keys: Bool[Tensor, "batch key"], among: Bool[Tensor, "batch key"], order: Int[Tensor, "batch key"]
) -> Bool[Tensor, "batch key"]:
    """As many other keys as a set has: the first of `among` in an order, the set left out; fewer where few are."""
    found = torch.zeros_like(keys)
    for k in range(len(keys)):
        free = [int(j) for j in order[k].tolist() if among[k, j] and not keys[k, j]]
        found[k, free[: int(keys[k].sum())]] = True
    return found


LAWS = (
    Law(key_attention, ("non_negative", "batch_free"), {"window": None, "causal": False}),
    Law(share_above, ("non_negative", "bounded_by_one"), {"level": 0.3}),
    Law(massive, ("padding_free", "batch_free"), {"magnitude": 1.0, "ratio": 2.0}),
    Law(median_size, ("non_negative", "padding_free", "batch_free", "permutation_free")),
    Law(peak_score, ("scale_free", "padding_free", "batch_free", "permutation_free")),
    Law(bias_constancy, ("non_negative", "batch_free")),
    Law(same_number, ("batch_free",)),
)
