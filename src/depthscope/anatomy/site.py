"""A site names one tensor of a network: `L12.attn_out`, `L12.H3.head_out`, `embed`, `final`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from depthscope.errors import BadInput, UnknownName

Part = Literal[
    "embed", "resid_pre", "resid_mid", "resid_post", "attn_in", "attn_out", "ssm_out", "mlp_in", "mlp_out",
    "mlp_hidden", "head_out", "final",
]  # fmt: skip
"""What can be read of a layer; `embed` and `final` belong to no layer.

resid_pre, resid_mid, resid_post: the residual stream before the layer, between its sublayers, after it.
attn_out, ssm_out, mlp_out: what a sublayer ADDS to the stream, after its own norm and scale.
attn_in, mlp_in: what the sublayer's module receives. mlp_hidden: what the MLP's last projection receives.
head_out: what the attention's output projection receives, one slice a head. final: the last state after the final norm.
"""

PARTS: tuple[str, ...] = get_args(Part)
WITHOUT_LAYER = frozenset({"embed", "final"})
_GRAMMAR = re.compile(r"^L(?P<layer>-?\d+)(?:\.H(?P<head>\d+))?\.(?P<part>\w+)$")


@dataclass(frozen=True, order=True)
class Site:
    """The place of one tensor.

    Args:
        layer: 0-based block, negative counts from the end, None for `embed` and `final`.
        part: one of PARTS.
        head: 0-based query head, only with `head_out`.

    Raises:
        BadInput: when layer, part and head do not fit together.

    Example:
        >>> str(ds.Site(3, "head_out", 5))
        'L3.H5.head_out'
    """

    layer: int | None
    part: Part
    head: int | None = None

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise UnknownName("part of a site", self.part, PARTS)
        if (self.layer is None) != (self.part in WITHOUT_LAYER):
            raise BadInput(
                f"site part {self.part!r} with layer {self.layer}: embed and final have none, all others need one"
            )
        if self.head is not None and self.part != "head_out":
            raise BadInput(f"head {self.head} was given for {self.part!r}; only head_out has heads")

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Read `L12.attn_out`, `L12.H3.head_out`, `L-1.resid_post`, `embed` or `final`.

        Raises:
            BadInput: when the text is not of that form.
            UnknownName: when the part is not one of PARTS.
        """
        if isinstance(text, Site):
            return text
        if text in WITHOUT_LAYER:
            return cls(None, cast("Part", text))
        found = _GRAMMAR.match(text)
        if not found:
            raise BadInput(
                f"{text!r} is no site; write it as 'L12.attn_out', 'L12.H3.head_out', 'embed' or 'final'"
            )
        if found["part"] not in PARTS:
            raise UnknownName("part of a site", found["part"], PARTS)
        head = found["head"]
        return cls(int(found["layer"]), cast("Part", found["part"]), None if head is None else int(head))

    def __str__(self) -> str:
        if self.layer is None:
            return self.part
        return f"L{self.layer}." + (f"H{self.head}." if self.head is not None else "") + self.part
