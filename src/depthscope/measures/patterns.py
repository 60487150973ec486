"""What one attention pattern looks like, query by query.

Rows are attention probabilities over *all* keys 0 .. key-1, zero where a key is not visible. Nothing is
renormalised: where a head has a learned sink (GPT-OSS) a row sums to less than 1, the rest is attention to
nothing, and entropy and masses are those of the row as it stands. Average over queries from position 1 on:
query 0 sees only itself. Sources: Clark et al. 2019, sections 3 and 6 (entropy, offsets); Xiao et al. 2024
(attention to the first token).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def pattern_statistics(
    rows: Float[Tensor, "batch head query key"],
    query_positions: Int[Tensor, " query"],
    window: int | None,
    causal: bool,
    key_mask: Bool[Tensor, "batch key"] | None,
) -> dict[str, Float[Tensor, "batch head query"]]:
    """Statistics of each attention row A[i, :], one value per query.

    - `entropy`: -sum_j A ln A with 0 ln 0 = 0, nats, 0 .. ln n_i for rows that sum to 1.
    - `entropy_norm`: entropy / ln n_i over the n_i visible keys; NaN where n_i < 2. 1 for a uniform row; a
      row that sums to less than 1 may exceed it slightly.
    - `distance`: sum_j A |i - j|, tokens.
    - `previous`, `self`, `first`: A[i, i-1], A[i, i], A[i, 0]; NaN where that key is not visible (before the
      sequence, out of the window, masked): a local head cannot reach the first token, which is not a choice
      of 0.
    - `local_8`, `local_32`: sum of A[i, j] over 0 <= i - j < w without key 0, which is the sink.

    Args:
        rows: probabilities, computed in float32 (float16 underflows before the entropy).
        query_positions: position i of each row; need not be all positions, nor sorted.
        window: sliding window W, keys with |i - j| < W are visible; None: no window.
        causal: whether keys after the query are invisible.
        key_mask: False for padded keys, which are padded on the right; None: none are.

    Raises:
        BadInput: a query position lies outside the keys.
    """
    n_keys = rows.shape[-1]
    if ((query_positions < 0) | (query_positions >= n_keys)).any():
        raise BadInput(
            f"query positions must lie in 0 .. {n_keys - 1} (the keys), got {query_positions.tolist()}"
        )
    rows, query_positions = at_least_float32(rows), query_positions.to(rows.device)
    offset = query_positions[:, None] - torch.arange(n_keys, device=rows.device)
    visible = _visible(offset, window, causal, key_mask)
    entropy = _entropy(rows)
    log_n = visible.sum(-1).to(rows.dtype).log().unsqueeze(1)
    weights = torch.stack(
        [offset.abs().to(rows.dtype), _local(offset, 8, rows.dtype), _local(offset, 32, rows.dtype)]
    )
    distance, local_8, local_32 = torch.einsum("bhqk,sqk->sbhq", rows, weights)
    return {
        "entropy": entropy,
        "entropy_norm": torch.where(log_n > 0, entropy / log_n, math.nan),
        "distance": distance,
        "previous": _at(rows, query_positions - 1, visible),
        "first": _at(rows, torch.zeros_like(query_positions), visible),
        "self": _at(rows, query_positions, visible),
        "local_8": local_8,
        "local_32": local_32,
    }


def _entropy(rows: Tensor) -> Tensor:
    # Faster than torch.special.entr on a CPU; below the smallest normal number A ln A is zero in effect.
    return -(rows * rows.clamp_min(torch.finfo(rows.dtype).tiny).log()).sum(-1)


def _visible(offset: Tensor, window: int | None, causal: bool, key_mask: Tensor | None) -> Tensor:
    """Which keys each query may see, [batch or 1, query, key]."""
    visible = torch.ones_like(offset, dtype=torch.bool)
    if causal:
        visible = visible & (offset >= 0)
    if window is not None:
        visible = visible & (offset.abs() < window)
    return visible.unsqueeze(0) if key_mask is None else visible.unsqueeze(0) & key_mask.unsqueeze(1)


def _local(offset: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    near = (offset >= 0) & (offset < width)
    near[:, 0] = False
    return near.to(dtype)


def _at(rows: Tensor, keys: Tensor, visible: Tensor) -> Tensor:
    """A[i, keys_i] for each query, NaN where that key does not exist or is not visible."""
    index = keys.clamp_min(0).long()[None, :, None]
    seen = visible.gather(-1, index.expand(visible.shape[0], -1, 1)).squeeze(-1) & (keys >= 0)
    value = rows.gather(-1, index.unsqueeze(1).expand(*rows.shape[:2], -1, 1)).squeeze(-1)
    return torch.where(seen.unsqueeze(1), value, math.nan)


LAWS = (
    Law(pattern_statistics, ("non_negative", "batch_free"), {"window": None, "causal": True}),
    Law(pattern_statistics, ("non_negative", "batch_free"), {"window": 3, "causal": True}),
    Law(pattern_statistics, ("non_negative", "batch_free"), {"window": None, "causal": False}),
)
