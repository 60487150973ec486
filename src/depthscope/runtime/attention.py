"""Queries, keys and values as attention receives them, and attention rows recomputed only where they are asked for.

transformers sends every softmax attention through one interface, chosen by name. For the length of one block of code
the name is replaced by ours, which hands the call to the same kernel as before and keeps q (after position encoding,
only at the asked queries) and k. Rows are then recomputed from them: no full map is ever held.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from depthscope.errors import Refused
from depthscope.runtime.model import Model

_NAME = "depthscope_{}"
Keep = Callable[["Heads", Tensor | None], None]
"""Receives what a layer's attention was called with, and the full weights where the kernel returned them (eager)."""


@dataclass(frozen=True)
class Heads:
    """What one layer's attention was called with.

    Args:
        query: at the asked queries, [row head query d_head], after position encoding and q/k norms.
        key: all keys, [row kv_head key d_head]. value: the same for values, or None where not kept.
        mask: what the kernel received (None, boolean or additive), cut to the asked queries.
        causal, window, scaling, cap, sinks: how scores become rows; `sinks` are learned logits without a key [head].
    """

    queries: Int[Tensor, " query"]
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

        With learned sinks a row sums to less than 1 by the sink's share. A query that sees nothing gives zeros.
        """
        kind = torch.promote_types(self.query.dtype, torch.float32)
        query = self.query.to(kind)
        key = self.key.to(kind).repeat_interleave(query.shape[1] // self.key.shape[1], dim=1)
        scores = torch.matmul(query, key.transpose(-1, -2)).mul_(self.scaling)
        if self.cap is not None:
            scores = self.cap * torch.tanh(scores / self.cap)
        scores = self._masked(scores)
        if self.sinks is None:
            return torch.softmax(scores, dim=-1).nan_to_num_(0.0)
        column = self.sinks.to(scores).reshape(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]

    def _masked(self, scores: Tensor) -> Tensor:
        if self.mask is not None and self.mask.dtype == torch.bool:
            return scores.masked_fill(~self.mask, float("-inf"))
        if self.mask is not None:
            return scores + self.mask.to(scores)
        if not self.causal:
            return scores
        keys = torch.arange(scores.shape[-1], device=scores.device)
        return scores.masked_fill(keys[None, :] > self.queries[:, None], float("-inf"))


@contextmanager
def listening(model: Model, queries: Int[Tensor, " query"], keep: Keep) -> Generator[None]:
    """Hand every softmax attention call of the block of code to `keep`, in the order of the calls.

    Raises:
        Refused: for a kernel that does not go through transformers' attention interface.
    """
    before = str(model.config._attn_implementation)
    name = _NAME.format(before)
    if before not in ("eager", "sdpa"):
        raise Refused(
            f"attention rows need attn_implementation 'sdpa' or 'eager', this model runs {before!r}"
        )
    ALL_ATTENTION_FUNCTIONS.register(name, _spy(before, queries, keep))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[before])
    with implementation(model, name):
        yield


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


def _spy(before: str, queries: Tensor, keep: Keep) -> Callable[..., Any]:
    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **how: Any,
    ) -> Any:  # noqa: ANN401
        out, weights = _kernel(before, module)(module, query, key, value, attention_mask, **how)
        keep(_heads(module, query, key, attention_mask, queries, how), weights)
        return out, weights

    return attend


def _kernel(name: str, module: nn.Module) -> Callable[..., Any]:
    if name == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[name]


def _heads(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, queries: Tensor, how: dict[str, Any]
) -> Heads:
    queries = queries[queries < query.shape[2]]
    causal = how.get("is_causal")
    causal = bool(getattr(module, "is_causal", True)) if causal is None else bool(causal)
    scaling, sinks = how.get("scaling"), how.get("s_aux")
    if sinks is not None and not torch.is_grad_enabled():
        # a parameter: unlike what the pass computes it would keep a graph alive
        sinks = sinks.detach()
    return Heads(
        queries=queries,
        query=query[:, :, queries],
        key=key,
        value=None,
        mask=None if mask is None else mask[:, :, queries, : key.shape[2]],
        causal=causal,
        scaling=float(query.shape[-1] ** -0.5 if scaling is None else scaling),
        cap=how.get("softcap"),
        sinks=sinks,
    )
