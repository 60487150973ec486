"""Edits as frozen values: what to put in a tensor's place, where, and at which positions. They compose in order.

Example:
    >>> asked = [ds.edits.skip(2), ds.edits.zero("L3.H1.head_out")]
    >>> ds.run(model, "a text", read=["L3.resid_post"], edit=asked)["L3.resid_post"].shape
    torch.Size([1, 6, 32])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput

Change = Callable[[Tensor, Tensor], Tensor]
"""(tensor [row token ...], the block's input stream [row token d_model]) -> what takes the tensor's place."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One change at one site.

    Args:
        site: where. For `head_out` with a head the change sees that head's slice [row token d_head].
        change: what takes the place.
        label: how it is called in results.
        at: positions that change, [row token] or [token]; None means all.
    """

    site: Site
    change: Change
    label: str
    at: Bool[Tensor, "row token"] | Bool[Tensor, " token"] | None = None

    def apply(self, value: Tensor, stream: Tensor) -> Tensor:
        """The edited tensor; positions outside `at` keep their value."""
        changed = self.change(value, stream)
        if self.at is None:
            return changed
        return torch.where(_as_mask(self.at, value), changed, value)


def _as_mask(at: Tensor, value: Tensor) -> Tensor:
    mask = at.to(value.device)
    mask = mask if mask.dim() == 2 else mask[None]
    if mask.shape[1] != value.shape[1]:
        raise BadInput(f"an edit is at {mask.shape[1]} positions, the text has {value.shape[1]} tokens")
    return mask.reshape(*mask.shape, *([1] * (value.dim() - 2)))


def zero(site: str | Site, at: Tensor | None = None) -> Edit:
    """Zero ablation: x := 0."""
    return Edit(Site.parse(site), lambda x, _: torch.zeros_like(x), f"zero {site}", at)


def mean(site: str | Site, value: Float[Tensor, " width"], at: Tensor | None = None) -> Edit:
    """Mean ablation: x := a stored mean, the same at every position."""
    return Edit(Site.parse(site), lambda x, _: _wide(value, x).expand_as(x), f"mean {site}", at)


def resample(site: str | Site, other: Float[Tensor, "row token width"], at: Tensor | None = None) -> Edit:
    """Resample ablation: x := the value the site had on another text of the same length."""
    return Edit(Site.parse(site), lambda x, _: _fitting(other, x), f"resample {site}", at)


def swap(site: str | Site, at: Tensor | None = None) -> Edit:
    """Swap rows: row k takes the value of row -k-1 of the same batch (with two rows, each takes the other's)."""
    return Edit(Site.parse(site), lambda x, _: x.flip(0), f"swap {site}", at)


def add(
    site: str | Site, vector: Float[Tensor, " width"], scale: float = 1.0, at: Tensor | None = None
) -> Edit:
    """Steering: x := x + scale * vector."""
    return Edit(Site.parse(site), lambda x, _: x + scale * _wide(vector, x), f"add {scale:g} at {site}", at)


def scale(site: str | Site, factor: float, at: Tensor | None = None) -> Edit:
    """Scaling: x := factor * x."""
    return Edit(Site.parse(site), lambda x, _: x * factor, f"scale {factor:g} {site}", at)


def project_out(site: str | Site, directions: Float[Tensor, "k width"], at: Tensor | None = None) -> Edit:
    """Remove the span of some directions: x := x - x Q Qᵀ with Q an orthonormal basis of their span.

    Directions may depend on each other or be zero; what they do not span stays.
    """
    basis = _basis(directions)

    def change(x: Tensor, _: Tensor) -> Tensor:
        q = _wide(basis, x)
        return x - (x @ q.T) @ q

    return Edit(Site.parse(site), change, f"project_out {len(directions)} at {site}", at)


def replace_with(site: str | Site, value: Float[Tensor, "row token width"], at: Tensor | None = None) -> Edit:
    """Replacement: x := a given tensor of the same shape."""
    return Edit(Site.parse(site), lambda x, _: _fitting(value, x), f"replace {site}", at)


def skip(layer: int, sublayer: str = "block", at: Tensor | None = None) -> Edit:
    """Skip a layer (`block`: its output is its input) or one sublayer (`attention`, `ssm`, `mlp`: it adds nothing).

    Raises:
        BadInput: for another sublayer word.
    """
    parts = {"attention": "attn_out", "ssm": "ssm_out", "mlp": "mlp_out"}
    if sublayer == "block":
        return Edit(Site(layer, "resid_post"), _input, f"skip {layer}", at)
    if sublayer not in parts:
        raise BadInput(f"cannot skip {sublayer!r}; a sublayer is block, attention, ssm or mlp")
    site: Any = Site(layer, parts[sublayer])  # pyright: ignore[reportArgumentType]
    return Edit(site, lambda x, _: torch.zeros_like(x), f"skip {layer}.{sublayer}", at)


def _input(_: Tensor, stream: Tensor) -> Tensor:
    return stream


def _fitting(value: Tensor, x: Tensor) -> Tensor:
    if value.shape[-2:] != x.shape[-2:] or (value.dim() == x.dim() and len(value) not in (1, len(x))):
        raise BadInput(f"the replacement has shape {tuple(value.shape)}, the site {tuple(x.shape)}")
    return value.to(x).expand_as(x)


def _wide(value: Tensor, x: Tensor) -> Tensor:
    if value.shape[-1] != x.shape[-1]:
        raise BadInput(f"the edit's vector has {value.shape[-1]} numbers, the site {x.shape[-1]}")
    return value.to(x)


def _basis(directions: Float[Tensor, "k width"]) -> Float[Tensor, "rank width"]:
    """Orthonormal rows with the span of some directions; rank by the rounding of the directions' own type."""
    _, size, rows = torch.linalg.svd(directions.double(), full_matrices=False)
    rounding = torch.finfo(torch.promote_types(directions.dtype, torch.float32)).eps * max(directions.shape)
    return rows[(size > rounding * size.max()) & (size > 0)]
