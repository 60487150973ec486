"""A layer of the small networks that are trained here, which hands out the attention that it used."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from depthscope.errors import BadInput
from depthscope.ranges import Range, above, at_least, check_ranges


def must_be_trainable(study: object, width: int, heads: int, **more: Range) -> None:
    """Hold the sizes and the training of a study of small networks against their ranges, with those of its own fields.

    Raises:
        BadInput: for a field outside its range, or a width that does not fall into the heads.
    """
    each = dict.fromkeys(("width", "layers", "heads", "steps", "rows"), at_least(1))
    check_ranges(study, **each, lr=above(0), **more)
    if width % heads:
        raise BadInput(f"width={width}, heads={heads}: the width is a multiple of the heads")


class ShownLayer(nn.Module):
    """Attention and an MLP behind LayerNorms; with a `pair` each head also sees a learned key and value.

    Args:
        causal: whether tokens ahead are hidden.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.pair: nn.Parameter | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stream behind the layer, and attention [row head query key], a learned pair as the last key."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.before(x)).chunk(3, -1)
        )
        length = x.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1) & self.causal
        if self.pair is not None:
            key, value = (own.expand(len(x), -1, -1, -1) for own in self.pair)
            k, v = torch.cat([k, key], 2), torch.cat([v, value], 2)
            hidden = functional.pad(hidden, (0, 1), value=False)
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(hidden, -torch.inf)
        attention = scores.softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.between(x)), attention
