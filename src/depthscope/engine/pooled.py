"""Pooled vectors of texts at all states, in one pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from depthscope.errors import BadInput, UnknownName
from depthscope.materials.edges import encoded
from depthscope.measures.pooling import POOLINGS, pool
from depthscope.measures.precision import at_least_float32
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

TOGETHER = 2048
"""Tokens of one batch."""
View = tuple[str, bool]
"""(pooling, True after the final norm)"""


@dataclass(frozen=True)
class PooledVectors:
    """One vector a text at each state.

    Args:
        vectors: float32. tokens: ids of each text, special ones included. empty: texts without an id of their own (""
            or blanks); where the tokenizer adds no special ids either, their vectors are zero.
    """

    vectors: Float[np.ndarray, "state text d_model"]
    tokens: Int[np.ndarray, " text"]
    empty: Bool[np.ndarray, " text"]


def pooled(
    model: Model,
    texts: Sequence[str],
    pooling: str = "mean",
    *,
    norm: bool = False,
    max_tokens: int = 512,
    upto: int | None = None,
) -> PooledVectors:
    """Vectors [state, text, d_model] of texts at states 0..L, or 0..upto, each text read as the tokenizer gives it.

    Texts of equal length share a batch, so nothing is padded; equal texts are read once; the pass ends after the last
    state that is asked for. `norm=True`: each state after the model's final norm (the same where there is none).

    Args:
        max_tokens: longer texts are cut, special ids behind them kept. upto: the last state.

    Raises:
        BadInput: for a model without tokenizer, or states that do not exist.
        UnknownName: for an unknown pooling.
    """
    return pooled_views(model, texts, [(pooling, norm)], max_tokens=max_tokens, upto=upto)[pooling, norm]


@torch.no_grad()
def pooled_views(
    model: Model,
    texts: Sequence[str],
    views: Sequence[View],
    *,
    max_tokens: int = 512,
    upto: int | None = None,
) -> dict[View, PooledVectors]:
    """As `pooled`, for several poolings and both sides of the final norm, still in one pass."""
    for pooling, _ in views:
        if pooling not in POOLINGS:
            raise UnknownName("pooling", pooling, POOLINGS)
    last = model.anatomy.n_layers if upto is None else upto
    if not 0 <= last <= model.anatomy.n_layers:
        raise BadInput(f"upto={upto}; {model.name} has states 0 to {model.anatomy.n_layers}")
    read = [encoded(model.tokenizer, text, max_tokens) for text in texts]
    shape = (last + 1, len(texts), model.anatomy.d_model)
    found = {view: np.zeros(shape, np.float32) for view in views}
    for batch, places in _batches([ids for ids, _ in read]):
        for state, vectors in enumerate(_states(model, batch, last)):
            for view, values in each_view(model, vectors, batch.mask, views):
                found[view][state, np.concatenate(places)] = np.repeat(
                    values.float().cpu().numpy(), [len(same) for same in places], axis=0
                )
    tokens = np.asarray([len(ids) for ids, _ in read], np.int64)
    empty = np.asarray([own == 0 for _, own in read], np.bool_)
    return {view: PooledVectors(vectors, tokens, empty) for view, vectors in found.items()}


def each_view(
    model: Model,
    vectors: Float[Tensor, "row token d_model"],
    mask: Bool[Tensor, "row token"],
    views: Sequence[View],
) -> Iterator[tuple[View, Float[Tensor, "row d_model"]]]:
    """The pooled vectors of one state by each view; massive tokens are those of the side that is pooled."""
    sides = {after: final_normed(model, vectors) if after else vectors for after in {a for _, a in views}}
    for pooling, after in views:
        yield (pooling, after), pool(sides[after], mask, pooling)


@torch.no_grad()
def final_normed(model: Model, vectors: Float[Tensor, "*items d_model"]) -> Float[Tensor, "*items d_model"]:
    """States after the model's final norm, in float32 or more; unchanged where the model has none (BERT)."""
    vectors = at_least_float32(vectors)
    norm = model.anatomy.final_norm
    if norm is None:
        return vectors
    return _precise(norm, vectors.dtype)(vectors)


def _batches(read: Sequence[tuple[int, ...]]) -> Iterator[tuple[Batch, list[list[int]]]]:
    """Batches of equal length, each row with the places of the texts it stands for; texts without ids are left out."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, ids in enumerate(read):
        places.setdefault(ids, []).append(place)
    for length, group in groupby(sorted(places, key=len), key=len):
        same = list(group)
        step = max(1, TOGETHER // max(1, length))
        for start in range(0, len(same) if length else 0, step):
            rows = same[start : start + step]
            yield Batch.of_ids(rows), [places[ids] for ids in rows]


def _states(model: Model, batch: Batch, last: int) -> Iterator[Tensor]:
    sites = model.anatomy.states()[: last + 1]
    seen = run(model, batch, read=sites)
    for site in sites:
        yield seen[site]


def _precise(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The norm in the type of what it reads."""
    own = {p.dtype for p in norm.parameters()}
    return norm if own <= {dtype} else copy.deepcopy(norm).to(dtype)
