"""Attention between words, and which word it picks: a head's rows read as a guess at a dependency parse.

A token belongs to a word or to none (-1: special tokens). Sources: Clark et al. 2019 (arXiv 1906.04341), sections 4.1
and 4.2; Htut et al. 2019 (1911.12246) for trees of attention; Prim 1957 for the tree.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def word_attention(
    rows: Float[Tensor, "batch head query key"],
    query_words: Int[Tensor, "batch query"],
    key_words: Int[Tensor, "batch key"],
    n_words: int,
    last: bool = False,
) -> Float[Tensor, "batch head word word"]:
    """Attention from each word to each other word.

    A_w[n, m] = mean over the tokens i of n of the sum over the tokens j of m of A[i, j]. Words without a query give
    rows of zeros. Sums of a row are at most 1: attention to tokens of no word is in no column.

    Args:
        rows: attention probabilities. query_words, key_words: the word of each query and key, -1 for none.
        n_words: words of the longest row of the batch. last: only the last token of a word asks, which in a causal
            model is the only one that has seen the whole word.

    Raises:
        BadInput: a word number lies outside -1 .. n_words - 1.
    """
    for words in (query_words, key_words):
        if ((words < -1) | (words >= n_words)).any():
            raise BadInput(
                f"words are numbered -1 .. {n_words - 1}, got {int(words.min())} .. {int(words.max())}"
            )
    rows = at_least_float32(rows)
    numbers = torch.arange(n_words, device=rows.device)
    asks = (query_words[:, None, :] == numbers[:, None]).to(rows.dtype)
    if last:
        asks = asks * (asks.flip(-1).cumsum(-1).flip(-1) == 1)
    asks = asks / asks.sum(-1, keepdim=True).clamp_min(1.0)
    holds = (key_words[:, :, None] == numbers).to(rows.dtype)
    return torch.matmul(torch.matmul(asks[:, None], rows), holds[:, None])


def picked(
    attention: Float[Tensor, "batch head word word"], allowed: Bool[Tensor, "batch word word"]
) -> Int[Tensor, "batch head word"]:
    """The allowed word with the most attention from each word, the first of equals; -1 where none is allowed."""
    best = attention.masked_fill(~allowed[:, None], -1.0).argmax(-1)
    return torch.where(allowed.any(-1)[:, None], best, -1)


def at_offsets(
    allowed: Bool[Tensor, "batch word word"], offsets: Int[Tensor, " offset"]
) -> Int[Tensor, "batch offset word"]:
    """What a rule says that always picks the word o places away; -1 where there is none or it is not allowed."""
    n_words = allowed.shape[-1]
    places = torch.arange(n_words, device=allowed.device) + offsets.to(allowed.device)[:, None]
    inside = (places >= 0) & (places < n_words)
    index = places.clamp(0, n_words - 1).expand(allowed.shape[0], -1, -1)
    fine = allowed.gather(-1, index.transpose(1, 2)).transpose(1, 2)
    return torch.where(inside & fine, index, -1)


def spanning_trees(
    scores: Float[Tensor, "batch head word word"],
    there: Bool[Tensor, "batch word"],
    root: Int[Tensor, " batch"],
) -> Int[Tensor, "batch head word"]:
    """The word that each word hangs on in the spanning tree of largest weight, grown from a given root.

    Two words are joined with the weight max(scores[i, j], scores[j, i]): attention has no direction of its own, and in
    a causal model only the later word looks. The tree is the exact maximum (Prim: the nearest word joins next), and
    its edges point away from the root. The first of equals is taken.

    Args:
        there: words that belong to the tree; the root does in any case.

    Returns:
        The number of a word; -1 for the root and for words that do not belong to the tree.
    """
    weight = torch.maximum(scores, scores.transpose(2, 3))
    batch, heads, n_words = weight.shape[:3]
    place = root[:, None, None].expand(batch, heads, 1)
    joined = torch.zeros(batch, heads, n_words, dtype=torch.bool, device=scores.device)
    joined.scatter_(2, place, True)
    outside = ~there[:, None] & ~joined
    best = weight.gather(2, place[..., None].expand(-1, -1, 1, n_words))[:, :, 0]
    parent = place.expand(-1, -1, n_words).clone()
    for _ in range(n_words - 1):
        nearest = best.masked_fill(joined | outside, -torch.inf).argmax(-1, keepdim=True)
        # once all have joined the first word comes again: it moves only words outside, which have no parent in the end
        joined = joined.scatter(2, nearest, True)
        new = weight.gather(2, nearest[..., None].expand(-1, -1, 1, n_words))[:, :, 0]
        nearer = (new > best) & ~joined
        parent = torch.where(nearer, nearest, parent)
        best = torch.where(nearer, new, best)
    at_root = torch.zeros_like(joined).scatter(2, place, True)
    return parent.masked_fill(at_root | outside, -1)


LAWS = (
    Law(word_attention, ("non_negative", "batch_free"), {"n_words": 5}),
    Law(word_attention, ("non_negative", "batch_free"), {"n_words": 5, "last": True}),
    Law(picked, ("batch_free",)),
    Law(at_offsets, ("batch_free",)),
    Law(spanning_trees, ("batch_free",)),
)
