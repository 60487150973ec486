"""A pass under streaming attention: every query sees the first keys of the text and its most recent ones only.

A Λ-shaped mask over the whole text gives what decoding token by token from such a cache gives, in one pass. Where the
cache counts positions inside itself (`rolling`), recent keys stand as far from the query as in the text, so only the
first keys move: a query beyond the cache is turned back to the cache's last place for them, which rotary positions
allow exactly. Source: Xiao et al. 2024 (arXiv 2309.17453), section 3.2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import Refused
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.attention import Call, Kernel, intercepting
from depthscope.runtime.head_ablation import layer_of
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import Seen, run

_STILL = 1e-3
"""What a rotation by nothing may change a query by."""
Turn = Callable[[Tensor, Tensor], Tensor]
"""(queries [row head query d_head], places back [query]) -> the queries as if they stood so many places earlier."""


@dataclass(frozen=True)
class Cache:
    """What a streaming cache keeps.

    Args:
        start: first keys of the text. recent: last keys, the query's own included. rolling: positions are counted in
            the cache, not in the text.

    Raises:
        BadInput: for a cache without a recent key.
    """

    start: int
    recent: int
    rolling: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, start=at_least(0, what="first keys"), recent=at_least(1, what="recent keys"))

    @property
    def size(self) -> int:
        """Keys it holds at most."""
        return self.start + self.recent

    def visible(self, queries: int, keys: int, device: torch.device) -> Bool[Tensor, "query key"]:
        """Which keys of a text each query sees (a causal mask comes on top)."""
        back = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
        return (back < self.recent) | (torch.arange(keys, device=device) < self.start)


@torch.no_grad()
def streamed(
    model: Model,
    batch: Batch,
    cache: Cache,
    read: Iterable[Site | str] = (),
    clean: Seen | None = None,
) -> Seen:
    """One pass in which every softmax attention sees what the cache keeps; reads as in `run`, the last state always.

    Args:
        clean: a pass of rows of the same length made with `record=True`, for `rolling`; made here by default.

    Raises:
        Refused: for models that are not causal; with `rolling` for layers without rotary positions.
    """
    if not model.anatomy.family.causal:
        raise Refused(f"{model.name} is no causal language model: it keeps no cache of what came before")
    turns = _turns(model, batch, clean) if cache.rolling and cache.start else {}

    def attend(kernel: Kernel, call: Call) -> tuple[Tensor, Tensor | None]:
        return _attended(kernel, call, cache, turns.get(layer_of(model, call)) if turns else None)

    with intercepting(model, attend):
        return run(model, batch, read=[*read, Site(model.anatomy.n_layers - 1, "resid_post")])


def _attended(kernel: Kernel, call: Call, cache: Cache, turn: Turn | None) -> tuple[Tensor, Tensor | None]:
    queries, keys = call.query.shape[2], call.key.shape[2]
    mask = call.visible() & cache.visible(queries, keys, call.query.device)
    call = replace(call, mask=_like(call, mask))
    if turn is None:
        return kernel(call)
    position = torch.arange(queries, device=call.query.device)
    turned = turn(call.query, (position - (cache.size - 1)).clamp_min(0))
    first = torch.arange(keys, device=call.query.device)[:, None] < cache.start
    # two halves of one dot product: a first key meets the turned query, any other the query as it stands
    scaling = call.how.get("scaling")
    how = {**call.how, "scaling": call.query.shape[-1] ** -0.5 if scaling is None else scaling}
    double = replace(
        call,
        query=torch.cat([call.query, turned], -1),
        key=torch.cat([call.key.masked_fill(first, 0.0), call.key.masked_fill(~first, 0.0)], -1),
        how=how,
    )
    return kernel(double)


def _like(call: Call, mask: Tensor) -> Tensor:
    """The mask in the form that the kernel was called with."""
    if call.mask is None or call.mask.dtype == torch.bool:
        return mask
    zero = torch.zeros((), dtype=call.mask.dtype, device=mask.device)
    return torch.where(mask, zero, torch.finfo(call.mask.dtype).min)


def _turns(model: Model, batch: Batch, clean: Seen | None) -> dict[int, Turn]:
    """How queries of each layer are turned back, from the rotations that its block is called with."""
    calls = (clean or run(model, batch.select([0]), record=True)).calls
    return {layer: _turn(model, layer, calls[layer][1]) for layer in model.anatomy.attention_layers}


def _turn(model: Model, layer: int, given: Any) -> Turn:  # noqa: ANN401
    sub, said = model.anatomy.layers[layer].attn, given.get("position_embeddings")
    own = sys.modules[type(sub.module).__module__] if sub is not None else None
    rotate = getattr(own, "apply_rotary_pos_emb", None)
    if rotate is None or not isinstance(said, tuple | list) or len(said) != 2:
        raise Refused(
            f"layer {layer} of {model.name} has no rotary positions that could be counted anew; leave the rolling "
            "variant out"
        )
    cos, sin = (x[:1] for x in said)
    size = cos[0, 0].abs().max()  # some rotations scale as well; a turn back must not
    return _Turned(rotate, cos / size, sin / size)


@dataclass(frozen=True, eq=False)
class _Turned:
    """Queries turned back by rotations taken from a table, [1 position rotary]."""

    rotate: Any
    cos: Tensor
    sin: Tensor

    def __call__(
        self, query: Float[Tensor, "row head query d_head"], back: Tensor
    ) -> Float[Tensor, "row head query d_head"]:
        still = self._rotated(query[..., :1, :], torch.zeros_like(back[:1]))
        if still.shape != query[..., :1, :].shape or not bool(
            (still - query[..., :1, :]).abs().max() < _STILL
        ):
            raise Refused(
                "only a part of each query is rotated, in an order of its own; leave the rolling variant out"
            )
        return self._rotated(query, back)

    def _rotated(self, query: Tensor, back: Tensor) -> Tensor:
        cos, sin = self.cos[:, back].to(query), -self.sin[:, back].to(query)
        try:
            return self.rotate(query, query, cos, sin)[0]
        except RuntimeError:  # rotations narrower than the query, which this family cuts itself
            return query.new_zeros(0)
