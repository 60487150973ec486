"""Texts continued greedily with a vector added at their end, at every step, and nothing of it kept.

What earlier ends were given is forgotten: at each step only the last position of the text so far has the vector, as if
the text were read anew. Where every layer keeps keys and values, the prompt is read once for all vectors, and a
step reads the new tokens only; else whole texts are read at each step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused
from depthscope.runtime.edits import Edit
from depthscope.runtime.generate import generate, stops, text_of
from depthscope.runtime.model import Model
from depthscope.runtime.prefix import Prefix, goes_by_cache


@torch.no_grad()
def continued(
    model: Model,
    ids: Sequence[int],
    state: int,
    vectors: Sequence[Tensor | None],
    tokens: int,
    by_cache: bool | None = None,
) -> list[str]:
    """How a prompt goes on under each vector; None adds nothing.

    Args:
        state: where vectors are added, 0 the embedding output. tokens: the most that are written.
        by_cache: go on from the prompt's keys and values (True) or read whole texts (False); None takes the first
            where it is exact.

    Raises:
        Refused: for models that write no text, and for `by_cache` where a layer keeps more than keys and values.
        BadInput: for a text that the model cannot hold.
    """
    if not model.anatomy.has_unembedding() or not model.anatomy.family.causal:
        raise Refused(f"{model.name} continues no text: it is no causal language model with an unembedding")
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest and len(ids) + tokens > longest:
        raise BadInput(f"{len(ids)} + {tokens} tokens do not fit: {model.name} reads at most {longest}")
    if goes_by_cache(model, by_cache, "continue") and len(ids) > 1:
        return _from_prefix(model, ids, state, vectors, tokens)
    return [_whole(model, ids, state, vector, tokens) for vector in vectors]


def _from_prefix(
    model: Model, ids: Sequence[int], state: int, vectors: Sequence[Tensor | None], tokens: int
) -> list[str]:
    prefix, ends = Prefix.of(model, ids), stops(model, None)[0]
    written = torch.zeros(len(vectors), 0, dtype=torch.long, device=model.device)
    push = at_the_end(state, _rows(model, vectors))
    ended = torch.zeros(len(vectors), dtype=torch.bool)
    for _ in range(tokens):
        last = prefix.ends(len(vectors), [push], after=written)
        said = model.head.logits(last).argmax(-1).to(written)
        written = torch.cat([written, said[:, None]], dim=1)
        ended |= torch.tensor([int(token) in ends for token in said])
        if bool(ended.all()):
            break
    return [_said(model, row, ends) for row in written.tolist()]


def _said(model: Model, written: list[int], ends: frozenset[int]) -> str:
    """The text of a row up to the token that ended it; rows go on until all have ended."""
    first = next((k for k, token in enumerate(written) if token in ends), len(written) - 1)
    return text_of(model, written[: first + 1], ends) or ""


def _whole(model: Model, ids: Sequence[int], state: int, vector: Tensor | None, tokens: int) -> str:
    edit = [] if vector is None else [at_the_end(state, vector[None])]
    return generate(model, ids, max_new_tokens=tokens, edit=edit, use_cache=vector is None).text or ""


def _rows(model: Model, vectors: Sequence[Tensor | None]) -> Float[Tensor, "row d_model"]:
    nothing = torch.zeros(model.anatomy.d_model, dtype=torch.float64)
    return torch.stack([nothing if one is None else one.double().cpu() for one in vectors])


def at_the_end(state: int, rows: Float[Tensor, "row d_model"]) -> Edit:
    """The edit that adds a vector to the last position of each row of whatever is read; one vector serves all rows."""
    site = Site(state - 1, "resid_post") if state else Site(0, "resid_pre")

    def push(stream: Tensor, _: Tensor) -> Tensor:
        return torch.cat([stream[:, :-1], stream[:, -1:] + rows.to(stream)[:, None]], dim=1)

    return Edit(site, push, f"added at state {state}")
