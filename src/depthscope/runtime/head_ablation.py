"""Ablations of attention heads, many in one batch, each resumed from the first layer it touches.

Every condition is a block of copies of the batch's rows. What a head gives (z, before the output projection) is
replaced there, or its attention is changed where the kernel is called; conditions of every kind may share a batch.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, UnknownName
from depthscope.runtime.attention import Call, Kernel, intercepting
from depthscope.runtime.head_writes import head_outputs, layers_with_heads
from depthscope.runtime.hooks import Tap, hooked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.replay import replay
from depthscope.runtime.run import Seen, run
from depthscope.runtime.wiring import wire

Kind = Literal["zero", "mean", "uniform", "pattern_preserving", "stream", "resample"]
At = Literal["all", "decode_only", "last"]
BUDGET = 256 * 2**20
"""Bytes that one block call may take beyond the model, by an estimate of its widest tensors."""


@dataclass(frozen=True, eq=False)
class Ablation:
    """One condition: which heads, what is put in their place, and where.

    Args:
        heads: (layer, head) pairs, 0-based.
        kind: "zero": z := 0. "mean": z := its mean over other text. "uniform": the head attends to all that it can see
            alike. "pattern_preserving": z := 0 while all later attention keeps the rows of the clean pass. "stream":
            the head sees its first `start` and last `recent` keys only, renormalised. "resample": z := z on another
            text.
        at: "all" positions, "decode_only" (from the last token of the prompt on), "last" real position of each row, or
            a mask, [token] or [row token]. The heads of one condition change at the same positions.
        name: how results call it.

    Raises:
        UnknownName: for another kind or place. BadInput: without heads, or for a window without keys.
    """

    heads: tuple[tuple[int, int], ...]
    kind: str = "mean"
    at: str | Bool[Tensor, " token"] | Bool[Tensor, "row token"] = "all"
    start: int = 4
    recent: int = 256
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UnknownName("kind of ablation", self.kind, get_args(Kind))
        if isinstance(self.at, str) and self.at not in get_args(At):
            raise UnknownName("place of an ablation", self.at, get_args(At))
        if self.kind == "stream" and (self.start < 0 or self.recent < 1):
            raise BadInput(
                f"a streaming head keeps 0 or more first keys and at least 1 recent one, got {self.start} and "
                f"{self.recent}"
            )

    def first(self, depth: int) -> int:
        """The first layer it touches; `depth` where it touches none."""
        return min((layer for layer, _ in self.heads), default=depth)

    def of_layer(self, layer: int) -> list[int]:
        """Its heads in one layer."""
        return [head for at, head in self.heads if at == layer]


def kv_group(anatomy: Anatomy, layer: int, kv_head: int) -> tuple[tuple[int, int], ...]:
    """All query heads that share one key-value head: what a decision about the cache ablates together."""
    size = anatomy.n_heads // anatomy.n_kv_heads
    if not 0 <= kv_head < anatomy.n_kv_heads:
        raise BadInput(f"layer {layer} has key-value heads 0 to {anatomy.n_kv_heads - 1}, got {kv_head}")
    return tuple((layer, kv_head * size + k) for k in range(size))


@torch.no_grad()
def head_means(model: Model, batches: Iterable[Batch], skip: int = 1) -> Float[Tensor, "layer head d_head"]:
    """Mean of each head's z over real positions from `skip` on (position 0 is a sink); NaN in layers without heads.

    Float64 sums; what `mean` ablations put in a head's place.
    """
    anatomy = model.anatomy
    total = torch.full((anatomy.n_layers, anatomy.n_heads, anatomy.d_head), torch.nan, dtype=torch.float64)
    total[layers_with_heads(anatomy)] = 0.0
    count = 0
    for batch in batches:
        mask = batch.mask.clone()
        mask[:, :skip] = False
        count += int(mask.sum())
        for layer, z in head_outputs(model, batch).items():
            total[layer] += z[mask.to(z.device)].double().sum(0).cpu()
    if not count:
        raise BadInput(f"means of heads need a real position from position {skip} on; there is none")
    return total / count


def ablated(
    model: Model,
    batch: Batch,
    conditions: Sequence[Ablation],
    *,
    means: Float[Tensor, "layer head d_head"] | None = None,
    other: Mapping[int, Tensor] | None = None,
    read: Iterable[Site | str] = (),
    prompt: int | Sequence[int] | None = None,
    clean: Seen | None = None,
    budget: int = BUDGET,
) -> Iterator[tuple[int, Seen]]:
    """Each condition's pass: (its number, what was seen), the last state always read.

    Conditions stand side by side in the batch and start at the first layer that any of them touches, in groups of
    neighbouring starts that fit the budget; so they come in the order of their starts, not in that of the list. One
    clean pass of the batch is recorded for all of them.

    Args:
        means: for "mean", of `head_means`. other: for "resample", of `head_outputs` on rows of the same shape.
        read: sites of the layers that run anew; the last state is `L<last>.resid_post`.
        prompt: tokens of the prompt in each row, for "decode_only".
        clean: a pass of the batch made with `record=True` that read all states; made here by default.

    Raises:
        BadInput: for heads that do not exist, or a kind without what it needs.
        Refused: where the pass cannot be resumed.
    """
    read = list(read)
    if clean is None:
        clean = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    depth = model.anatomy.n_layers
    patterns = _clean_patterns(model, clean.batch, conditions)
    order = sorted(range(len(conditions)), key=lambda k: conditions[k].first(depth))
    for group in _groups(model, clean.batch, order, budget):
        some = [conditions[k] for k in group]
        start = min(*(c.first(depth) for c in some), depth - 1)
        plan = Plan(model, tuple(some), clean.batch, means, other, prompt, patterns)
        stream = clean.states()[start] if start == 0 else clean[Site(start - 1, "resid_post")]
        stream = stream.repeat(len(some), 1, 1)
        with plan.installed():
            seen = replay(clean, start, stream, read=read)
        for place, k in enumerate(group):
            yield k, _of_condition(seen, place)


def _of_condition(seen: Seen, place: int) -> Seen:
    rows = seen.batch.rows
    mine = slice(place * rows, (place + 1) * rows)
    return Seen(seen.model, seen.batch, {site: x[mine] for site, x in seen.tensors.items()}, seen.calls)


@contextmanager
def ablating(
    model: Model,
    conditions: Sequence[Ablation],
    *,
    means: Float[Tensor, "layer head d_head"] | None = None,
) -> Generator[None]:
    """Ablate heads in every call of the network within a block of code, such as steps of generation from a cache.

    The rows of each call are blocks of equal size, one a condition, in the order of the list. Conditions act at all
    positions of the calls: `at="decode_only"` means that the block of code holds only steps behind the prompt.

    Raises:
        BadInput: for "pattern_preserving" and "resample", which need a recorded clean pass, and for other places.
    """
    for each in conditions:
        if each.kind in ("pattern_preserving", "resample") or each.at not in ("all", "decode_only"):
            raise BadInput(f"{each.kind!r} at {each.at!r} needs a recorded pass; use ablated() for it")
    everywhere = tuple(replace(c, at="all") for c in conditions)
    with torch.no_grad(), Plan(model, everywhere, None, means).installed():
        yield


def _groups(model: Model, batch: Batch, order: list[int], budget: int) -> list[list[int]]:
    anatomy = model.anatomy
    width = 4 * anatomy.d_model + 3 * max(anatomy.d_mlp, anatomy.n_heads * anatomy.d_head)
    each = batch.rows * batch.length * width * model.dtype.itemsize
    size = max(1, budget // max(1, each))
    return [order[k : k + size] for k in range(0, len(order), size)]


@dataclass(frozen=True, eq=False)
class Plan:
    """Conditions side by side in one batch: what is put where in each layer.

    Args:
        batch: the rows that each condition holds a copy of; None where calls vary (generation).
        patterns: layer -> queries and keys of the clean pass, for pattern-preserving conditions.
    """

    model: Model
    conditions: tuple[Ablation, ...]
    batch: Batch | None
    means: Tensor | None = None
    other: Mapping[int, Tensor] | None = None
    prompt: int | Sequence[int] | None = None
    patterns: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for condition in self.conditions:
            for layer, head in condition.heads:
                self.model.anatomy.resolve(Site(layer, "head_out", head))
            if condition.kind == "mean" and condition.heads and self.means is None:
                raise BadInput("a mean ablation needs the heads' means: head_means(model, batches)")
            if condition.kind == "resample" and condition.heads and self.other is None:
                raise BadInput("a resample ablation needs other outputs: head_outputs(model, other_batch)")

    @contextmanager
    def installed(self) -> Generator[None]:
        """Within the block every call of the network is ablated."""
        layers = sorted({layer for c in self.conditions for layer, _ in c.heads})
        taps = [
            Tap(
                wire(self.model.anatomy, Site(k, "head_out")).module,
                "in",
                lambda x, k=k: self._replaced(k, x),
            )
            for k in layers
        ]
        with ExitStack() as stack:
            stack.enter_context(hooked(taps))
            if any(c.kind in ("uniform", "stream", "pattern_preserving") for c in self.conditions):
                stack.enter_context(intercepting(self.model, self._attend))
            yield

    def _replaced(self, layer: int, value: Tensor) -> Tensor | None:
        """What the output projection reads, with z replaced for the conditions that do so."""
        tokens = value.shape[1] if value.dim() > 2 or self.batch is None else self.batch.length
        split = (len(self.conditions), -1, tokens, self.model.anatomy.n_heads, self.model.anatomy.d_head)
        z, touched = value.reshape(split).clone(), False
        for place, condition in enumerate(self.conditions):
            for head in condition.of_layer(layer):
                if condition.kind in ("uniform", "stream"):
                    continue
                put, touched = self._instead(condition, layer, head, z[place, :, :, head]), True
                where = self.where(condition, z.shape[2]).to(z.device)[..., None]
                z[place, :, :, head] = torch.where(where, put, z[place, :, :, head])
        return z.reshape(value.shape) if touched else None

    def _instead(self, condition: Ablation, layer: int, head: int, z: Tensor) -> Tensor:
        if condition.kind == "mean":
            assert self.means is not None
            return self.means[layer, head].to(z).expand_as(z)
        if condition.kind == "resample":
            assert self.other is not None
            given = self.other[layer][:, :, head]
            if given.shape[1] not in (1, z.shape[1]) or len(given) not in (1, len(z)):
                raise BadInput(
                    f"other outputs of layer {layer} have shape {tuple(given.shape)}, the rows {tuple(z.shape)}"
                )
            return given.to(z).expand_as(z)
        return torch.zeros_like(z)

    def where(self, condition: Ablation, length: int) -> Bool[Tensor, "row token"]:
        """The positions at which a condition acts."""
        at = condition.at
        if isinstance(at, Tensor):
            at = at if at.dim() == 2 else at[None]
            if at.shape[1] != length:
                raise BadInput(f"an ablation is at {at.shape[1]} positions, the text has {length} tokens")
            return at
        if at == "all":
            return torch.ones(1, length, dtype=torch.bool)
        assert self.batch is not None
        position = torch.arange(length)
        if at == "last":
            return position == (self.batch.mask.sum(-1).cpu() - 1)[:, None]
        if self.prompt is None:
            raise BadInput("an ablation while decoding needs the number of tokens of the prompt")
        prompt = torch.as_tensor(self.prompt).reshape(-1, 1)
        return position >= prompt - 1

    def _attend(self, kernel: Kernel, call: Call) -> tuple[Tensor, Tensor | None]:
        """The kernel under changed attention where a condition asks for it."""
        layer = layer_of(self.model, call)
        call = self._with_clean_patterns(layer, call)
        out, weights = kernel(call)
        rows, whole = len(out) // len(self.conditions), out
        for place, condition in enumerate(self.conditions):
            heads = condition.of_layer(layer)
            if not heads or condition.kind not in ("uniform", "stream"):
                continue
            out = out.clone() if out is whole else out
            mine = slice(place * rows, (place + 1) * rows)
            part = _rows(call, mine)
            changed = uniform(part) if condition.kind == "uniform" else streamed(kernel, part, condition)
            where = self.where(condition, out.shape[1]).to(out.device)[..., None, None]
            out[mine, :, heads] = torch.where(where, changed[:, :, heads], out[mine, :, heads])
        return out, weights

    def _with_clean_patterns(self, layer: int, call: Call) -> Call:
        held = [p for p, c in enumerate(self.conditions) if c.kind == "pattern_preserving"]
        if not held or layer not in self.patterns:
            return call
        query, key = call.query.clone(), call.key.clone()
        rows = len(query) // len(self.conditions)
        for place in held:
            query[place * rows : (place + 1) * rows], key[place * rows : (place + 1) * rows] = self.patterns[
                layer
            ]
        return replace(call, query=query, key=key)


def uniform(call: Call) -> Float[Tensor, "row query head d_head"]:
    """Every head's output if it attended to all keys it can see alike; a learned sink gets nothing."""
    seen = call.visible().to(call.value.dtype)
    weights = seen / seen.sum(-1, keepdim=True).clamp_min(1.0)
    means = torch.matmul(weights, call.value)
    return means.repeat_interleave(call.query.shape[1] // call.key.shape[1], dim=1).transpose(1, 2)


def streamed(kernel: Kernel, call: Call, condition: Ablation) -> Float[Tensor, "row query head d_head"]:
    """Every head's output if it saw its first `start` and its last `recent` keys only (a Λ-shaped mask)."""
    queries, keys = call.query.shape[2], call.key.shape[2]
    position = torch.arange(keys - queries, keys, device=call.query.device)
    key = torch.arange(keys, device=call.query.device)
    near = position[:, None] - key < condition.recent
    window = call.how.get("sliding_window")
    # a windowed cache has dropped its first keys: what it holds first is not the text's first
    dropped = queries == 1 and window is not None and keys >= window
    lamb = near if dropped else near | (key < condition.start)
    mask = call.visible() & lamb
    if call.mask is not None and call.mask.dtype != torch.bool:
        least = torch.finfo(call.mask.dtype).min
        mask = torch.where(mask, torch.zeros((), dtype=call.mask.dtype, device=mask.device), least)
    return kernel(replace(call, mask=mask))[0]


def _rows(call: Call, mine: slice) -> Call:
    mask = call.mask
    return replace(
        call,
        query=call.query[mine],
        key=call.key[mine],
        value=call.value[mine],
        mask=mask if mask is None or len(mask) == 1 else mask[mine],
    )


def layer_of(model: Model, call: Call) -> int:
    """The layer whose block holds the calling attention module.

    Raises:
        BadInput: where no block holds it.
    """
    said = getattr(call.module, "layer_idx", None)
    if isinstance(said, int) and call.module in set(model.anatomy.layers[said].block.modules()):
        return said
    for layer in model.anatomy.layers:
        if any(m is call.module for m in layer.block.modules()):
            return layer.index
    raise BadInput(f"{type(call.module).__name__} attends outside the blocks of {model.name}")


def _clean_patterns(
    model: Model, batch: Batch, conditions: Sequence[Ablation]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Queries and keys of the layers behind the first one that a pattern-preserving condition touches."""
    depth = model.anatomy.n_layers
    first = min((c.first(depth) for c in conditions if c.kind == "pattern_preserving"), default=depth)
    if first >= depth:
        return {}
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(kernel: Kernel, call: Call) -> tuple[Tensor, Tensor | None]:
        layer = layer_of(model, call)
        if layer > first:
            found[layer] = (call.query, call.key)
        return kernel(call)

    with intercepting(model, keep):
        run(model, batch, read=[Site(depth - 1, "resid_post")])
    return found
