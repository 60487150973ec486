"""Replay: resume a recorded pass from any layer with a given stream, in any order of layers, under edits.

The recorded call arguments belong to the block module, not to the slot: a block that runs elsewhere still gets its own
position encoding and mask. Tensors are shared, containers are copied at record and at each call. Rows may be more than
were recorded: tensors whose first axis is the batch are repeated.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused
from depthscope.runtime.edits import Edit, skip
from depthscope.runtime.hooks import Tap, hooked, put_stream, tensor_of
from depthscope.runtime.model import Model
from depthscope.runtime.run import Call, Seen
from depthscope.runtime.wiring import taps

_CARRIED = ("past_key_values", "past_key_value", "layer_past", "cache_params", "state")
"""Names under which blocks of transformers receive what an earlier call left."""


@dataclass(frozen=True)
class Parallel:
    """A step in which several layers get the same input h.

    Args:
        layers: which, at least one; a layer may be named twice.
        join: "mean" averages their outputs, h + mean of writes; "sum" adds all their writes, h + sum of writes.

    Raises:
        BadInput: without any layer.
    """

    layers: tuple[int, ...]
    join: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if not self.layers:
            raise BadInput("a parallel step of an order needs at least one layer")


@dataclass(frozen=True)
class Without:
    """A step in which one layer runs while its mixer ("attention": any kind of mixer) or its "mlp" adds nothing."""

    layer: int
    sublayer: Literal["attention", "mlp"]


Step = int | Parallel | Without
"""One step of an order: a layer, layers side by side, or a layer without one of its sublayers."""


def fixed_order(anatomy: Anatomy) -> str:
    """Why the layers of a network may not be left out or change places; nothing where they may.

    They may not where a layer reads what another one left (keys and values shared between layers), and where the family
    says that a recorded pass cannot be replayed.
    """
    declared = anatomy.family.refusals.get(4)
    if declared:
        return f"its layers cannot be replayed: {declared}"
    for layer in anatomy.layers:
        if any(getattr(module, "is_kv_shared_layer", False) for module in layer.block.modules()):
            return (
                f"layer {layer.index} reads the keys and values of an earlier layer, so no layer may be left out or "
                "change places"
            )
    return ""


def replay(
    seen: Seen,
    start: int,
    stream: Float[Tensor, "row token d_model"] | None = None,
    *,
    order: Sequence[Step] | None = None,
    edit: Iterable[Edit] = (),
    read: Iterable[Site | str] = (),
) -> Seen:
    """Resume from the input of layer `start` and return what is read; the last state is always read as `final_state`.

    Args:
        seen: a pass made with `record=True`.
        start: first layer that runs; `stream` is its input, by default the recorded one. Its first axis may be any
            multiple of the recorded batch: rows are then copies of the batch, one block of rows after the other.
        order: steps to run instead of start..L-1: skipped, swapped, repeated, reversed, side by side.
        edit, read: as in `run`; sites name modules, so an edit of a layer acts wherever that layer runs.

    Raises:
        Refused: when the pass was not recorded, or a recorded call carried a cache object.
    """
    model, length = seen.model, seen.batch.length
    steps = list(range(start, model.anatomy.n_layers)) if order is None else list(order)
    stream = seen[Site(start, "resid_pre")] if stream is None else stream
    store: dict[Site, Tensor] = {}
    sites = [site for pattern in read for site in model.anatomy.expand(pattern)]
    with torch.no_grad(), hooked(taps(model.anatomy, sites, edit, store, length)):
        for step in steps:
            stream = run_step(seen, step, stream)
    store[Site(model.anatomy.n_layers - 1, "resid_post")] = stream
    return Seen(model, seen.batch, store, seen.calls)


def run_step(
    seen: Seen, step: Step, stream: Float[Tensor, "row token d_model"]
) -> Float[Tensor, "row token d_model"]:
    """Run one step of an order on a stream.

    Raises:
        Refused: when nothing was recorded, or a layer has no such sublayer.
    """
    if isinstance(step, int):
        return call_block(seen, step, stream)
    if isinstance(step, Without):
        with hooked(taps(seen.model.anatomy, (), _silenced(seen.model, step), {}, seen.batch.length)):
            return call_block(seen, step.layer, stream)
    outputs = torch.stack([call_block(seen, layer, stream) for layer in step.layers])
    return outputs.mean(0) if step.join == "mean" else stream + (outputs - stream).sum(0)


def _silenced(model: Model, step: Without) -> list[Edit]:
    layer = model.anatomy.layers[step.layer]
    mixers = ["attention" if part == "attn_out" else "ssm" for part, _ in layer.mixers()]
    words = mixers if step.sublayer == "attention" else ["mlp"] if layer.mlp else []
    if not words:
        raise Refused(
            f"layer {step.layer} of {model.anatomy.name} has no {step.sublayer} that could be left out"
        )
    return [skip(step.layer, word) for word in words]


def call_block(
    seen: Seen, layer: int, stream: Float[Tensor, "row token d_model"]
) -> Float[Tensor, "row token d_model"]:
    """Run one block on a stream with the arguments it was recorded with."""
    block = seen.model.anatomy.layers[layer]
    args, kwargs = expanded(seen, layer, stream.shape[0])
    if block.pre is None:
        args, kwargs = put_stream(args, kwargs, stream)
        return tensor_of(block.block(*args, **kwargs))
    with hooked([Tap(block.pre, "out", lambda _: stream)]):
        return tensor_of(block.block(*args, **kwargs))


def expanded(seen: Seen, layer: int, rows: int) -> Call:
    """The recorded call of a layer with its tensors repeated for more rows; containers are fresh copies.

    Raises:
        Refused: when nothing was recorded or the call carried a cache.
    """
    if layer not in seen.calls:
        raise Refused(f"layer {layer} was not recorded; make the pass with record=True")
    args, kwargs = seen.calls[layer]
    names = list(inspect.signature(seen.model.anatomy.layers[layer].block.forward).parameters)
    names += [f"argument {k}" for k in range(len(names), len(args))]
    _refuse_cache(seen.model, {**dict(zip(names, args, strict=False)), **kwargs})
    batch = seen.batch.rows
    if rows % batch:
        raise BadInput(f"a replay needs a multiple of the recorded {batch} rows, got {rows}")
    axes = seen.model.anatomy.family.batch_axis
    fresh = {
        name: _repeated(value, batch, rows // batch, axes.get(name, 0)) for name, value in kwargs.items()
    }
    return tuple(
        _repeated(value, batch, rows // batch, axes.get(name, 0))
        for name, value in zip(names, args, strict=False)
    ), fresh


def _refuse_cache(model: Model, given: Mapping[str, Any]) -> None:
    """A block that goes on from an earlier call would give other numbers at each replay."""
    held = next((name for name in _CARRIED if given.get(name) is not None), None)
    held = held or next((n for n, v in given.items() if type(v).__name__.endswith("Cache")), None)
    held = held or ("use_cache" if given.get("use_cache") else None)
    if held:
        raise Refused(
            f"{model.anatomy.name} called a block with {held!r} ({type(given[held]).__name__}); a pass with a cache "
            "cannot be replayed, record it with run(..., record=True)"
        )


def _repeated(value: Any, batch: int, times: int, axis: int) -> Any:  # noqa: ANN401
    if isinstance(value, Tensor):
        if times == 1 or value.dim() < 2 or value.shape[axis] != batch:
            return value
        return value.repeat(*(times if k == axis else 1 for k in range(value.dim())))
    if isinstance(value, tuple | list):
        return type(value)(_repeated(v, batch, times, axis) for v in value)
    if isinstance(value, Mapping):
        return {k: _repeated(v, batch, times, axis) for k, v in value.items()}
    return value
