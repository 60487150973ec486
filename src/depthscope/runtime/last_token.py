"""What each head's output at the last token does: replaced one at a time, exactly, or screened by one gradient.

Nothing stands behind the last position, so a head replaced there leaves every other position as it was. Where every
layer keeps only keys and values, one pass over the prompt without its last token serves all replacements: the last
token goes through once with a row for each, and the rows share the kept keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused
from depthscope.runtime.head_ablation import Ablation, ablated
from depthscope.runtime.head_writes import layers_with_heads
from depthscope.runtime.hooks import Tap, hooked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.path_gradient import frozen
from depthscope.runtime.prefix import Prefix, goes_by_cache
from depthscope.runtime.run import run
from depthscope.runtime.wiring import wire

Metric = Callable[[Float[Tensor, "row d_vocab"]], Float[Tensor, " row"]]
"""What is asked of the logits behind the last token, row by row."""
ROWS = 64
"""Rows that one step of the last token serves."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Some heads' outputs at the last token, replaced together: (layer, head) pairs and z of each, [pair d_head]."""

    heads: tuple[tuple[int, int], ...]
    z: Float[Tensor, "pair d_head"]

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.z):
            raise BadInput(f"a patch of {len(self.heads)} heads was given {len(self.z)} outputs")


@dataclass(frozen=True)
class Effects:
    """What replacing each head at the last token does to a metric.

    Args:
        clean: the metric without a replacement. effect: metric after minus before, [layer head], NaN where nothing was
            replaced or the layer has no heads.
    """

    clean: float
    effect: Float[Tensor, "layer head"]


@torch.no_grad()
def last_token_effects(
    model: Model,
    ids: Sequence[int],
    z: Float[Tensor, "layer head d_head"],
    metric: Metric,
    *,
    heads: Sequence[tuple[int, int]] | None = None,
    by_cache: bool | None = None,
    rows: int = ROWS,
) -> Effects:
    """Indirect effect of each head at the last token: its z is replaced, all else goes on from there.

    Args:
        ids: the prompt, 2 tokens or more. z: what takes each head's place; rows of layers without heads are not read.
        metric: of the logits [row d_vocab] behind the last token.
        heads: which are replaced, all by default.
        by_cache: as in `last_token_states`. rows: replacements a step.

    Raises:
        Refused: for models that are not causal or have no unembedding.
    """
    if not model.anatomy.has_unembedding():
        raise Refused(f"{model.name} has no unembedding: there are no logits behind its last token")
    chosen = every_head(model) if heads is None else list(heads)
    patches = [Patch((pair,), z[pair[0], pair[1]][None]) for pair in chosen]
    ends = last_token_states(model, ids, [Patch((), z[0, :0]), *patches], by_cache=by_cache, rows=rows)
    found = torch.cat([metric(model.head.logits(part)).double().cpu() for part in ends.split(rows)])
    effect = torch.full((model.anatomy.n_layers, model.anatomy.n_heads), torch.nan, dtype=torch.float64)
    for (layer, head), value in zip(chosen, found[1:], strict=True):
        effect[layer, head] = value - found[0]
    return Effects(float(found[0]), effect)


def every_head(model: Model) -> list[tuple[int, int]]:
    """(layer, head) of every head, layer by layer; layers without heads give none."""
    return [(k, h) for k in layers_with_heads(model.anatomy) for h in range(model.anatomy.n_heads)]


@torch.no_grad()
def last_token_states(
    model: Model,
    ids: Sequence[int],
    patches: Sequence[Patch],
    *,
    by_cache: bool | None = None,
    rows: int = ROWS,
) -> Float[Tensor, "patch d_model"]:
    """The last state of the last token under each patch; a patch of no heads is the clean pass.

    Args:
        by_cache: go on from keys and values (True) or run whole prompts (False); None takes the cheapest exact one.
        rows: patches that go through the network side by side.

    Raises:
        Refused: for models that are not causal, and for `by_cache` where a layer keeps more than keys and values.
        BadInput: for a prompt below 2 tokens, or heads that do not exist.
    """
    anatomy = model.anatomy
    if not anatomy.family.causal:
        raise Refused(
            f"{model.name} is no causal language model: a patched last token changes the others too"
        )
    if len(ids) < 2:
        raise BadInput(f"a patch at the last token needs a prompt of 2 tokens, got {len(ids)}")
    for patch in patches:
        for layer, head in patch.heads:
            anatomy.resolve(Site(layer, "head_out", head))
    if not goes_by_cache(model, by_cache, "patch"):
        return _whole_prompts(model, ids, patches)
    prefix = Prefix.of(model, ids)
    groups = [patches[k : k + rows] for k in range(0, len(patches), rows)]
    return torch.cat([prefix.ends(len(group), places=_places(model, group)) for group in groups])


def _places(model: Model, patches: Sequence[Patch]) -> list[Tap]:
    """Where the heads of a group of patches, a row each, are replaced."""
    layers = sorted({layer for patch in patches for layer, _ in patch.heads})
    return [
        Tap(wire(model.anatomy, Site(k, "head_out")).module, "in", partial(_patched, model, k, patches))
        for k in layers
    ]


def _patched(model: Model, layer: int, patches: Sequence[Patch], value: Tensor) -> Tensor:
    z = value.reshape(len(patches), model.anatomy.n_heads, -1).clone()
    for row, patch in enumerate(patches):
        for (at, head), given in zip(patch.heads, patch.z, strict=True):
            if at == layer:
                z[row, head] = given.to(z)
    return z.reshape(value.shape)


def _whole_prompts(model: Model, ids: Sequence[int], patches: Sequence[Patch]) -> Tensor:
    """Whole prompts side by side, resumed from the first layer that a patch touches."""
    batch = Batch.of_ids([list(ids)]).to(model.device)
    clean = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    end = Site(model.anatomy.n_layers - 1, "resid_post")
    found: dict[int, Tensor] = {}
    for k, patch in enumerate(patches):
        condition = Ablation(patch.heads, "resample", at="last")
        for _, seen in ablated(model, batch, [condition], other=_as_outputs(model, patch), clean=clean):
            found[k] = seen[end][0, -1]
    return torch.stack([found[k] for k in range(len(patches))])


def _as_outputs(model: Model, patch: Patch) -> dict[int, Tensor]:
    """The patch's outputs as those of one token, broadcast over the prompt."""
    anatomy = model.anatomy
    blank = torch.zeros(1, 1, anatomy.n_heads, anatomy.d_head, dtype=patch.z.dtype, device=patch.z.device)
    found = {layer: blank.clone() for layer, _ in patch.heads}
    for (layer, head), z in zip(patch.heads, patch.z, strict=True):
        found[layer][0, 0, head] = z
    return found


def attribution(
    model: Model,
    batch: Batch,
    z: Float[Tensor, "layer head d_head"],
    metric: Metric,
    *,
    at: str = "last",
) -> Float[Tensor, "layer head"]:
    """First-order estimate of each head's effect from one backward pass: sum of (z_ref - z) · dM/dz.

    A screen: rank heads by it and confirm the top ones exactly (`last_token_effects`). NaN in layers without heads.
    Source: attribution patching (Nanda 2023; Syed et al. 2023, arXiv 2310.10348).

    Args:
        metric: of the logits behind the last real token of each row; the rows' metrics are averaged.
        at: "last": z is replaced at the last real token of each row; "all": everywhere.
    """
    anatomy, found = model.anatomy, dict[int, Tensor]()
    places = [
        Tap(wire(anatomy, Site(k, "head_out")).module, "in", partial(_tracked, found, k, anatomy.n_heads))
        for k in layers_with_heads(anatomy)
    ]
    end = Site(anatomy.n_layers - 1, "resid_post")
    with frozen(model.net), hooked(places):
        seen = run(model, batch, read=[end], gradient=True)
    batch = seen.batch
    last = batch.mask.sum(-1) - 1
    rows = torch.arange(batch.rows, device=last.device)
    with torch.enable_grad():
        moved = metric(model.head.graded(seen[end][rows, last])).mean()
    slopes = torch.autograd.grad(moved, list(found.values()))
    effect = torch.full((anatomy.n_layers, anatomy.n_heads), torch.nan, dtype=torch.float64)
    where = batch.mask if at == "all" else torch.arange(batch.length, device=last.device) == last[:, None]
    for (layer, own), slope in zip(found.items(), slopes, strict=True):
        gained = ((z[layer].to(own) - own.detach()) * slope).sum(-1) * where[..., None]
        effect[layer] = gained.sum((0, 1)).double().cpu()
    return effect


def _tracked(found: dict[int, Tensor], layer: int, heads: int, value: Tensor) -> Tensor:
    """The tensor itself, in the graph, as heads: the gradient is asked of what the projection really reads."""
    z = value.unflatten(-1, (heads, -1))
    if not z.requires_grad:
        z = z.detach().requires_grad_()
    found[layer] = z
    return z.flatten(-2)
