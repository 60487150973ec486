"""Attention rows of one layer when its keys, and only they, are made from another stream."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.errors import Refused
from depthscope.runtime.attention import Heads, listening
from depthscope.runtime.hooks import Enough
from depthscope.runtime.replay import call_block
from depthscope.runtime.run import Seen


@torch.no_grad()
def rows_with_keys(
    seen: Seen,
    layer: int,
    own: Float[Tensor, "row token d_model"],
    other: Float[Tensor, "copies_row token d_model"],
    queries: Int[Tensor, " query"],
) -> Float[Tensor, "copies_row head query key"]:
    """Rows of a layer whose queries read `own` while its keys read `other`, which may hold several copies of the rows.

    The layer runs up to its attention only. With other = own these are the layer's rows.

    Args:
        seen: a pass made with `record=True`. other: blocks of rows in the order of `own`, one block after the other.

    Raises:
        Refused: where the layer's attention does not go through transformers' interface, or nothing was recorded.
    """
    asked, read = _heads(seen, layer, own, queries), _heads(seen, layer, other, queries)
    times = len(other) // len(own)
    return replace(read, query=asked.query.repeat(times, 1, 1, 1)).rows()


def _heads(seen: Seen, layer: int, stream: Tensor, queries: Tensor) -> Heads:
    found: list[Heads] = []

    def keep(heads: Heads, _: Tensor | None) -> None:
        found.append(heads)
        raise Enough

    with listening(seen.model, queries.to(stream.device), keep), contextlib.suppress(Enough):
        call_block(seen, layer, stream)
    if not found:
        raise Refused(f"layer {layer} of {seen.model.name} gave no attention rows")
    return found[0]
