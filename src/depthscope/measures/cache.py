"""How many bytes keys and values take, and which heads would keep all of theirs.

Sources: Tang et al. 2024 (arXiv 2407.15891), full caches for echo and induction heads; Xiao et al. 2024
(arXiv 2410.10819), streaming heads that keep first and recent keys only.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

INDUCTION, ECHO = 0.14, 0.01
"""Shares of heads that keep their whole cache for their induction and for their echo score."""
START, RECENT = 64, 256
"""First and recent keys that a streaming head keeps."""


def full_heads(
    induction: Float[np.ndarray, "layer head"],
    echo: Float[np.ndarray, "layer head"],
    kv_heads: int,
    induction_share: float = INDUCTION,
    echo_share: float = ECHO,
) -> Float[np.ndarray, "layer head"]:
    """1 for heads that keep all keys, 0 for those that stream, NaN where there is no head: the RazorAttention rule.

    Heads that share keys are judged together, by their highest score; then the groups with the highest induction and
    those with the highest echo score are taken, at least one of each. A score that is missing (a window that ends
    before the last copy) counts below all others.

    Raises:
        BadInput: for groups that do not divide the heads, or shares outside 0..1.
    """
    layers, heads = induction.shape
    if kv_heads < 1 or heads % kv_heads or not 0 <= induction_share <= 1 or not 0 <= echo_share <= 1:
        raise BadInput(
            f"{heads} heads in {kv_heads} groups, shares {induction_share} and {echo_share}; groups divide "
            "heads, shares are 0 to 1"
        )
    known = np.isfinite(induction) | np.isfinite(echo)
    kept = np.zeros((layers, kv_heads), bool)
    there = known.reshape(layers, kv_heads, -1).any(-1)
    for score, share in ((induction, induction_share), (echo, echo_share)):
        group = np.where(np.isfinite(score), score, -np.inf).reshape(layers, kv_heads, -1).max(-1)
        count = max(1, round(share * int(there.sum()))) if share else 0
        order = np.argsort(-np.where(there, group, -np.inf), axis=None, kind="stable")[:count]
        best = np.zeros(kept.size, bool)
        best[order] = True
        kept |= best.reshape(kept.shape) & there
    return np.where(known, np.repeat(kept, heads // kv_heads, 1), np.nan)


def cache_bytes(
    tokens: int,
    full: Bool[np.ndarray, "layer kv_head"],
    window: Int[np.ndarray, " layer"],
    width: Int[np.ndarray, " layer"],
    start: int = START,
    recent: int = RECENT,
) -> int:
    """Bytes of keys and values after `tokens` tokens: sum over layers and key-value heads of width * keys kept.

    A full head keeps all tokens, a streaming one start + recent at most, and in a layer with a window no head keeps
    more than the window.

    Args:
        full: which heads keep all. window: of each layer, 0 for none. width: bytes that one token of one key-value head
            takes in each layer: 2 * d_head * bytes a number, or of latent attention its latent numbers; 0 for a layer
            without a cache.
    """
    kept = np.where(full, tokens, min(tokens, start + recent))
    bound = np.where(window > 0, window, tokens)
    return int((np.minimum(kept, bound[:, None]) * width[:, None]).sum())


LAWS = (Law(full_heads, (), {"kv_heads": 1}), Law(cache_bytes, (), {"tokens": 100}))
