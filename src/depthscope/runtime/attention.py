"""Queries, keys and values as attention receives them, and attention rows recomputed only where they are asked for.

transformers sends every softmax attention through one interface, chosen by name. For the length of one block of code
the name is replaced by ours, which hands the call to the same kernel as before and keeps q (after position encoding,
only at the asked queries), k and, where asked for, v. Rows are then recomputed from them: no full map is ever held.
The same place is where attention can be changed head by head (`intercepting`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from depthscope.errors import Refused
from depthscope.runtime.model import Model

_NAME = "depthscope_{}"
Queries = Int[Tensor, " query"] | Int[Tensor, "row query"]
"""Positions whose rows are wanted: the same in every row, or each row's own, -1 where a row has fewer."""
Keep = Callable[["Heads", Tensor | None], None]
"""Receives what a layer's attention was called with, and the full weights where the kernel returned them (eager)."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an attention kernel.

    Args:
        module: the attention module. query [row head query d_head], key and value [row kv_head key d_head]: after
            position encoding and q/k norms.
        mask: None, boolean or additive, [row head query key], its first two axes perhaps of size 1.
        how: the other arguments: scaling, sliding_window, softcap, s_aux ...
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    how: dict[str, Any]

    @property
    def scaling(self) -> float:
        """What q kᵀ is multiplied by."""
        said = self.how.get("scaling")
        return float(self.query.shape[-1] ** -0.5 if said is None else said)

    @property
    def cap(self) -> float | None:
        """The soft cap of the scores, if there is one."""
        return self.how.get("softcap")

    def visible(self) -> Bool[Tensor, "#row #head query key"]:
        """Which keys each query may see."""
        if self.mask is not None:
            # an additive mask holds 0 or the least number of its type
            seen = (
                self.mask
                if self.mask.dtype == torch.bool
                else self.mask > torch.finfo(self.mask.dtype).min / 2
            )
            return seen[..., : self.key.shape[2]]
        n, keys = self.query.shape[2], self.key.shape[2]
        seen = torch.ones(n, keys, dtype=torch.bool, device=self.query.device)
        return (seen.tril(keys - n) if causal(self.module, self.how) else seen)[None, None]


Kernel = Callable[[Call], tuple[Tensor, Tensor | None]]
"""What a kernel gives: the heads' outputs [row query head d_head], and its weights where it returns them."""
Attend = Callable[[Kernel, Call], tuple[Tensor, Tensor | None]]
"""What takes a kernel's place; it may call the kernel, on the call as it stands or on another."""


def causal(module: nn.Module, how: dict[str, Any]) -> bool:
    """Whether a call without a mask hides the keys ahead."""
    said = how.get("is_causal")
    return bool(getattr(module, "is_causal", True)) if said is None else bool(said)


@dataclass(frozen=True)
class Heads:
    """What one layer's attention was called with.

    Args:
        queries: the asked positions, [query], or each row's own [row query] with -1 where a row has fewer.
        query: at the asked queries, [row head query d_head], after position encoding and q/k norms.
        key: all keys, [row kv_head key d_head]. value: the same for values, or None where not kept.
        mask: what the kernel received (None, boolean or additive), cut to the asked queries.
        causal, window, scaling, cap, sinks: how scores become rows; `sinks` are learned logits without a key [head].
    """

    queries: Queries
    query: Tensor
    key: Tensor
    value: Tensor | None
    mask: Tensor | None
    causal: bool
    scaling: float
    cap: float | None
    sinks: Tensor | None

    def rows(self) -> Float[Tensor, "row head query key"]:
        """Attention probabilities of the asked queries in float32: softmax(cap(scaling * q kᵀ) + mask).

        With learned sinks a row sums to less than 1 by the sink's share. A query that sees nothing gives zeros; a place
        without a query (-1) gives NaN.
        """
        kind = torch.promote_types(self.query.dtype, torch.float32)
        shared, asked = self.key.shape[1], self.query.shape[2]
        # heads that share keys ask them side by side: no key is repeated
        query = self.query.to(kind).unflatten(1, (shared, -1)).flatten(2, 3)
        products = (query @ self.key.to(kind).mT).unflatten(2, (-1, asked)).flatten(1, 2)
        scores = self._masked(capped(products, self.scaling, self.cap))
        if self.sinks is None:
            return self._at_queries(torch.softmax(scores, dim=-1).nan_to_num_(0.0))
        column = self.sinks.to(scores).reshape(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        return self._at_queries(torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1])

    def _at_queries(self, rows: Tensor) -> Tensor:
        if self.queries.dim() == 1:
            return rows
        return rows.masked_fill((self.queries < 0)[:, None, :, None], float("nan"))

    def _masked(self, scores: Tensor) -> Tensor:
        if self.mask is not None and self.mask.dtype == torch.bool:
            return scores.masked_fill(~self.mask, float("-inf"))
        if self.mask is not None:
            return scores + self.mask.to(scores)
        if not self.causal:
            return scores
        keys = torch.arange(scores.shape[-1], device=scores.device)
        ahead = keys > self.queries[..., None]
        return scores.masked_fill(ahead if ahead.dim() == 2 else ahead[:, None], float("-inf"))


def capped(products: Tensor, scaling: float, cap: float | None) -> Tensor:
    """Scores of products q kᵀ, which are changed: cap(scaling * q kᵀ), before any mask."""
    scores = products.mul_(scaling)
    return scores if cap is None else cap * torch.tanh(scores / cap)


@contextmanager
def listening(model: Model, queries: Queries, keep: Keep, values: bool = False) -> Generator[None]:
    """Hand every softmax attention call of the block of code to `keep`, in the order of the calls.

    Args:
        queries: the positions whose rows can be recomputed. values: whether values are kept too.

    Raises:
        Refused: for a kernel that does not go through transformers' attention interface.
    """

    def attend(kernel: Kernel, call: Call) -> tuple[Tensor, Tensor | None]:
        out, weights = kernel(call)
        keep(_heads(call, queries, values), weights)
        return out, weights

    with intercepting(model, attend):
        yield


@contextmanager
def intercepting(model: Model, attend: Attend) -> Generator[None]:
    """Put a function in the place of every softmax attention kernel for a block of code; blocks may be nested.

    Raises:
        Refused: for a kernel that does not go through transformers' attention interface.
    """
    before = str(model.config._attn_implementation)
    if before.rpartition("_")[2] not in ("eager", "sdpa"):
        raise Refused(
            f"attention rows need attn_implementation 'sdpa' or 'eager', this model runs {before!r}"
        )
    name = _NAME.format(before)
    former = ALL_ATTENTION_FUNCTIONS.get(name)
    ALL_ATTENTION_FUNCTIONS.register(name, _taken(before, attend))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[before])
    try:
        with implementation(model, name):
            yield
    finally:
        if former is not None:
            ALL_ATTENTION_FUNCTIONS.register(name, former)


@contextmanager
def implementation(model: Model, name: str) -> Generator[None]:
    """Run a block of code under another attention implementation; the former one is restored."""
    configs = _configs(model.net)
    before = [each._attn_implementation_internal for each in configs]
    try:
        for each in configs:
            each._attn_implementation_internal = name
        yield
    finally:
        for each, former in zip(configs, before, strict=True):
            each._attn_implementation_internal = former


def _configs(net: nn.Module) -> list[Any]:
    found = {id(m.config): m.config for m in net.modules() if hasattr(m, "config")}
    return [c for c in found.values() if hasattr(c, "_attn_implementation_internal")]


def _taken(before: str, attend: Attend) -> Callable[..., Any]:
    """A function as transformers calls it."""
    # looked up once: a nested block registers under another name
    registered = ALL_ATTENTION_FUNCTIONS.get(before)

    def kernel(call: Call) -> tuple[Tensor, Tensor | None]:
        own = sys.modules[type(call.module).__module__]
        function: Any = own.eager_attention_forward if before == "eager" else registered
        return function(call.module, call.query, call.key, call.value, call.mask, **call.how)

    def taken(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **how: Any,
    ) -> tuple[Tensor, Tensor | None]:
        return attend(kernel, Call(module, query, key, value, attention_mask, how))

    return taken


def _heads(call: Call, queries: Tensor, values: bool) -> Heads:
    if queries.dim() == 1:
        queries = queries[queries < call.query.shape[2]]
    sinks = call.how.get("s_aux")
    if sinks is not None and not torch.is_grad_enabled():
        # a parameter: unlike what the pass computes it would keep a graph alive
        sinks = sinks.detach()
    return Heads(
        queries=queries,
        query=_picked(call.query, queries),
        key=call.key,
        value=call.value if values else None,
        mask=None if call.mask is None else _picked(call.mask, queries)[..., : call.key.shape[2]],
        causal=causal(call.module, call.how),
        scaling=call.scaling,
        cap=call.cap,
        sinks=sinks,
    )


def _picked(value: Tensor, queries: Tensor) -> Tensor:
    """[row head token ...] at the asked positions."""
    if queries.dim() == 1:
        return value[:, :, queries]
    index = queries.clamp_min(0)[:, None, :, None].expand(-1, value.shape[1], -1, value.shape[-1])
    return value.expand(len(queries), *value.shape[1:]).gather(2, index)
