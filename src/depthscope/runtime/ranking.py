"""Ranks and the largest logits within one chunk of the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 64
"""Neighbouring logits whose maximum is taken first: the k best groups hold the k best values."""


def above(z: Tensor, logit: Tensor, ids: Tensor, start: int, buffer: Tensor) -> Tensor:
    """How many of the chunk exceed a logit, its own id left out by index (a gathered logit rounds differently)."""
    count = torch.gt(z, logit[:, None], out=buffer).sum(-1)
    place = ids - start
    inside = (place >= 0) & (place < z.shape[1])
    own = z.gather(-1, place.clamp(0, z.shape[1] - 1)[:, None])[:, 0] > logit
    return count - (inside & own).to(count.dtype)


def top(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their ids; of equal ones those with the lowest ids."""
    width = z.shape[1]
    values, ids = _largest(z, min(k + 1, width))
    if width <= k:
        return values, ids
    # topk picks any of equal values: rows where the one left out equals the last one kept are sorted in full
    tied = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]
    values, ids = values[:, :k], ids[:, :k]
    if len(tied):
        order = torch.argsort(z[tied], dim=-1, descending=True, stable=True)[:, :k]
        ids = ids.index_copy(0, tied, order)
    return values, ids


def _largest(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, falling, through group maxima: the k best groups hold the k best values."""
    rows, width = z.shape
    if width % GROUP or width // GROUP <= k:
        found = torch.topk(z, k, dim=-1)
        return found.values, found.indices
    grouped = z.view(rows, width // GROUP, GROUP)
    groups = torch.topk(grouped.amax(-1), k, dim=-1, sorted=False).indices
    each = torch.arange(rows, device=z.device)[:, None]
    # whole groups are copied: `gather` goes one by one
    values = grouped[each, groups].reshape(rows, k * GROUP)
    found = torch.topk(values, k, dim=-1)
    ids = groups.gather(-1, found.indices // GROUP) * GROUP + found.indices % GROUP
    return found.values, ids


def ordered(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """By falling logit, ties by rising id."""
    by_id = torch.argsort(ids, dim=-1)
    logits, ids = logits.gather(-1, by_id), ids.gather(-1, by_id)
    order = torch.argsort(logits, dim=-1, descending=True, stable=True)
    return logits.gather(-1, order), ids.gather(-1, order)
