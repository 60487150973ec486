"""The points of a block where vectors can be looked at: what sublayers read and write, and the stream between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy, Layer
from depthscope.anatomy.site import Part, Site
from depthscope.engine.view import View

POINTS: tuple[Part, ...] = ("attn_in", "attn_out", "ssm_out", "resid_mid", "mlp_in", "mlp_out", "resid_post")


def points() -> tuple[str, ...]:
    """The points in the order of a block: mixer input, its writes, the stream then, MLP input, its write, the end.

    In a pre-norm block `attn_in` and `mlp_in` are outputs of norms. Where blocks are parallel, no module reads the
    stream between the sublayers: `resid_mid` is then the block's input plus its mixer writes.
    """
    return POINTS


def sublayer_sites(anatomy: Anatomy) -> tuple[str, ...]:
    """The patterns of sites that `sublayer_vectors` reads beyond the states."""
    parts = [p for p in POINTS[:-1] if any(_has(layer, p) for layer in anatomy.layers)]
    if not anatomy.family.post_norm and "resid_mid" in parts:
        parts.remove("resid_mid")  # a sum of what is read anyway
    return tuple(f"L*.{part}" for part in parts)


def sublayer_vectors(anatomy: Anatomy, seen: View) -> Iterator[Tensor | None]:
    """Vectors [row token d_model] of every layer and point in order; None where a layer has no such point."""
    for layer in anatomy.layers:
        for part in POINTS:
            yield _vectors(anatomy, layer, part, seen) if _has(layer, part) else None


def _has(layer: Layer, part: str) -> bool:
    match part:
        case "attn_in" | "attn_out":
            return layer.attn is not None
        case "ssm_out":
            return layer.ssm is not None
        case "resid_mid":
            return bool(layer.mixers())
        case "mlp_in" | "mlp_out":
            return layer.mlp is not None
        case _:
            return True


def _vectors(anatomy: Anatomy, layer: Layer, part: Part, seen: View) -> Tensor:
    if part == "resid_post":
        return seen.each_state[layer.index + 1]
    if part == "resid_mid" and not anatomy.family.post_norm:
        stream = seen.each_state[layer.index]
        for write, _ in layer.mixers():
            stream = stream + seen[Site(layer.index, cast("Part", write))].to(stream)
        return stream
    return seen[Site(layer.index, part)]
