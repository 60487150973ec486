"""From sites and edits to taps: which module a site is, on which side, and how its tensor is seen."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from depthscope.anatomy.anatomy import Anatomy, Layer, Sublayer, walk
from depthscope.anatomy.site import Site
from depthscope.errors import Refused
from depthscope.runtime.edits import Edit
from depthscope.runtime.hooks import Tap

Store = MutableMapping[Site, Tensor]


@dataclass(frozen=True)
class Wire:
    """Where one site's tensor passes, and the factor between what passes and what the site means."""

    module: nn.Module
    side: Literal["in", "out"]
    scale: float = 1.0
    heads: int = 0


def wire(anatomy: Anatomy, site: Site) -> Wire:
    """The wire of a resolved site (not of a `resid_mid` that must be added up)."""
    if site.layer is None:
        norm = anatomy.final_norm
        return Wire(norm, "out") if norm is not None else Wire(anatomy.layers[-1].block, "out")
    layer = anatomy.layers[site.layer]
    if site.part == "resid_pre":
        return Wire(layer.pre, "out") if layer.pre is not None else Wire(layer.block, "in")
    if site.part == "resid_post":
        return Wire(layer.block, "out")
    if site.part == "resid_mid":
        return _mid(anatomy, layer)
    kind, _, end = site.part.partition("_")
    sub = {"attn": layer.attn, "head": layer.attn, "ssm": layer.ssm, "mlp": layer.mlp}[kind]
    if sub is None:
        raise Refused(f"{site} does not exist in {anatomy.name}")
    return _of_sublayer(anatomy, site, sub, kind, end)


def _of_sublayer(anatomy: Anatomy, site: Site, sub: Sublayer, kind: str, end: str) -> Wire:
    if kind == "head" or end == "hidden":
        if sub.proj is None:
            raise Refused(f"{site}: the family {anatomy.name} names no output projection")
        return Wire(sub.proj, "in", heads=anatomy.n_heads if kind == "head" else 0)
    return Wire(sub.module, "in") if end == "in" else Wire(sub.write, "out", sub.scale)


def _mid(anatomy: Anatomy, layer: Layer) -> Wire:
    norm = walk(layer.block, anatomy.family.attn_norm) if anatomy.family.attn_norm else None
    if norm is None:
        raise Refused(f"L{layer.index}.resid_mid is added up, it passes through no module")
    return Wire(norm, "out")


def mid_is_sum(anatomy: Anatomy) -> bool:
    """True where resid_mid = resid_pre + mixer writes must be added up."""
    return not anatomy.family.post_norm


def edits_of_mid(anatomy: Anatomy, edit: Edit) -> Edit:
    """An edit of an added-up resid_mid as the edit of the mixer's write that has the same effect.

    Raises:
        Refused: where two mixers write in parallel.
    """
    mixers = anatomy.layers[edit.site.layer or 0].mixers()
    if len(mixers) != 1:
        raise Refused(
            f"{edit.site} cannot be edited: {len(mixers)} mixers write into it; edit them one by one"
        )
    site = Site(edit.site.layer, mixers[0][0])  # pyright: ignore[reportArgumentType]
    return Edit(site, lambda write, stream: edit.apply(stream + write, stream) - stream, edit.label)


def seen(wired: Wire, value: Tensor, length: int) -> Tensor:
    """What the site means: [row token width], times the write's scale, split in heads where it has them."""
    if value.dim() == 2:
        value = value.reshape(-1, length, value.shape[-1])
    if wired.heads:
        value = value.reshape(*value.shape[:2], wired.heads, -1)
    return value if wired.scale == 1.0 else value * wired.scale


def unseen(wired: Wire, value: Tensor, like: Tensor) -> Tensor:
    """The inverse of `seen`: the tensor to put back into the forward pass."""
    value = value if wired.scale == 1.0 else value / wired.scale
    return value.reshape(like.shape).to(like.dtype)


def taps(
    anatomy: Anatomy, read: Iterable[Site], edit: Iterable[Edit], store: Store, length: int
) -> list[Tap]:
    """Taps that apply edits in order and then store what is read; reads see edited values.

    `store` receives the tensors by site. A `resid_mid` that must be added up is not handled here: ask for resid_pre
    and the writes.
    """
    streams: dict[int, Tensor] = {}
    planned = [_resolved(anatomy, e) for e in edit]
    places: list[Tap] = [
        _keeping(anatomy, layer, streams) for layer in sorted({e.site.layer or 0 for e in planned})
    ]
    for change in planned:
        places.append(_editing(wire(anatomy, change.site), change, streams, length))
        if change.site.part == "resid_pre":
            places.append(_keeping(anatomy, change.site.layer or 0, streams))
    places.extend(_reading(wire(anatomy, site), site, store, length) for site in read)
    return places


def _resolved(anatomy: Anatomy, edit: Edit) -> Edit:
    site = anatomy.resolve(edit.site)
    edit = Edit(site, edit.change, edit.label, edit.at)
    return edits_of_mid(anatomy, edit) if site.part == "resid_mid" and mid_is_sum(anatomy) else edit


def _keeping(anatomy: Anatomy, layer: int, streams: dict[int, Tensor]) -> Tap:
    place = wire(anatomy, Site(layer, "resid_pre"))
    return Tap(place.module, place.side, lambda x: streams.__setitem__(layer, x))


def _editing(wired: Wire, edit: Edit, streams: dict[int, Tensor], length: int) -> Tap:
    return Tap(wired.module, wired.side, partial(_edited, wired, edit, streams, length))


def _edited(wired: Wire, edit: Edit, streams: dict[int, Tensor], length: int, raw: Tensor) -> Tensor:
    value = seen(wired, raw, length)
    stream = streams.get(edit.site.layer or 0, value) if edit.site.layer is not None else value
    return unseen(wired, _apply(edit, value, stream), raw)


def _apply(edit: Edit, value: Tensor, stream: Tensor) -> Tensor:
    if edit.site.head is None:
        return edit.apply(value, stream)
    changed = value.clone()
    changed[:, :, edit.site.head] = edit.apply(value[:, :, edit.site.head], stream)
    return changed


def _reading(wired: Wire, site: Site, store: Store, length: int) -> Tap:
    return Tap(wired.module, wired.side, partial(_stored, wired, site, store, length))


def _stored(wired: Wire, site: Site, store: Store, length: int, raw: Tensor) -> None:
    value = seen(wired, raw, length)
    store[site] = value if site.head is None else value[:, :, site.head]
