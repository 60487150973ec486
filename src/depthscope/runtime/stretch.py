"""A stretched copy: the same network with every block split in two passes of half strength.

It is the control of maps between models: twice the layers, nothing new to compute in them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from depthscope.anatomy.anatomy import Layer, Sublayer, base_model, first, resolve, text_config, walk
from depthscope.anatomy.family import Paths
from depthscope.anatomy.site import Site
from depthscope.errors import Refused
from depthscope.runtime.edits import zero
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.unrolled import numbered, relisted

_PROBE = 8
"""Token ids that the copy is checked with."""
_EXACT = 1e-3
"""Relative difference between a write of the copy and half of the model's that is still rounding, also in bfloat16."""


def stretched(model: Model) -> Model:
    """A model of 2 L layers in which layers 2k and 2k+1 are block k with half its writes.

    The last projections of attention and MLP are halved, so the first pass writes exactly half of what the block would
    write, and the second half of what the block would write onto that; where a block changes little of what it reads,
    state 2k is near state k of the model. A real network: laws hold on it and transformers runs it. All weights but
    the halved projections are shared with the model.

    Raises:
        Refused: for blocks that are not attention and MLP whose last projections are added as they are.
    """
    if model.anatomy.family.reads != "tokens":
        raise Refused(
            f"{model.name} reads {model.anatomy.family.reads}; a stretched copy is checked on tokens"
        )
    for layer in model.anatomy.layers:
        _refuse(model, layer)
    net = copy.deepcopy(model.net, {id(p): p for p in model.net.parameters()})
    family, config = model.anatomy.family, text_config(net)
    blocks = walk(base_model(net), family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    doubled = [part for block in blocks for part in _halves(block, (family.attn_proj, family.mlp_proj))]
    for number, block in enumerate(doubled):
        numbered(block, number)
    del blocks[:]
    blocks.extend(doubled)
    relisted(config, model.anatomy.n_layers, [k for k in range(model.anatomy.n_layers) for _ in range(2)])
    about = {**model.provenance, "name": f"{model.name}, stretched", "weights_hash": None, "recipe": None}
    anatomy = resolve(net, family, model.anatomy.name, model.anatomy.guessed)
    found = Model(net, model.tokenizer, anatomy, about)
    _check(model, found)
    return found


def _refuse(model: Model, layer: Layer) -> None:
    what = f"{model.name} cannot be stretched: layer {layer.index}"
    if model.anatomy.family.post_norm:
        raise Refused(f"{what} normalises the stream itself after each add; half a write is not half a pass")
    if layer.attn is None or layer.mlp is None or layer.ssm is not None:
        raise Refused(f"{what} is {layer.kind}, not attention followed by an MLP")
    for name, sub in (("attention", layer.attn), ("MLP", layer.mlp)):
        if not _plain(sub):
            raise Refused(
                f"{what} adds its {name} behind a norm or through experts, not as a projection gives it"
            )


def _plain(sub: Sublayer) -> bool:
    """True where the output of one projection is what is added (perhaps times a number)."""
    return sub.proj is not None and sub.write in (sub.module, sub.proj) and hasattr(sub.proj, "weight")


def _halves(block: nn.Module, projections: Iterable[Paths]) -> tuple[nn.Module, nn.Module]:
    """Two passes of a block that share all weights, the last projections halved."""
    for paths in projections:
        projection = first(block, paths)
        assert projection is not None
        for name, value in list(projection.named_parameters(recurse=False)):
            setattr(projection, name, nn.Parameter(value.detach() / 2, requires_grad=False))
    return block, copy.deepcopy(block, {id(p): p for p in block.parameters()})


def _check(model: Model, copied: Model) -> None:
    """Both writes of block 0 on the same stream are half of the model's.

    Raises:
        Refused: when they are not, as where something behind the projection is not linear.
    """
    batch = Batch.of_ids(torch.arange(_PROBE)[None] % max(1, model.anatomy.d_vocab))
    for part in ("attn_out", "mlp_out"):
        whole, half = (_write(one, batch, part) for one in (model, copied))
        if torch.linalg.vector_norm(half - whole / 2) > _EXACT * torch.linalg.vector_norm(whole):
            raise Refused(
                f"{model.name} cannot be stretched: halving the last projection does not halve {part}"
            )


def _write(model: Model, batch: Batch, part: str) -> torch.Tensor:
    """A write of block 0; that of the MLP with the attention's taken away, so that it reads the same stream."""
    site = Site.parse(f"L0.{part}")
    edits = [zero("L0.attn_out")] if part == "mlp_out" else []
    return run(model, batch, read=[site], edit=edits)[site].float()
