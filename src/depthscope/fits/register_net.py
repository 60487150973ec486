"""A small encoder of synthetic pictures, with or without registers: tokens without a place that its heads may rest on.

Every cell must say its own texture and the picture's class, so it needs what is local and what is global at once.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from depthscope.fits.shown_layer import ShownLayer
from depthscope.materials.pictures import Pictures


class RegisterNet(nn.Module):
    """The encoder: cells with places, a class token, registers; heads for the textures and the class."""

    def __init__(self, pictures: Pictures, registers: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.cells = pictures.side**2
        self.texture = nn.Embedding(pictures.textures, width)
        self.place = nn.Parameter(0.02 * torch.randn(self.cells, width))
        self.layers = nn.ModuleList(ShownLayer(width, heads, causal=False) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.own, self.whole = nn.Linear(width, pictures.textures), nn.Linear(width, pictures.textures)
        # drawn last: encoders of one seed differ in their registers only
        self.extra = nn.Parameter(0.02 * torch.randn(1 + registers, width))

    def forward(self, textures: Int[Tensor, "row cell"]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The last stream, the stream behind each layer, and each layer's attention; cells stand first."""
        x = self.texture(textures) + self.place
        x = torch.cat([x, self.extra.expand(len(x), -1, -1)], 1)
        states, maps = [x], list[Tensor]()
        for layer in self.layers:
            x, attention = layer(x)
            states.append(x)
            maps.append(attention)
        return self.norm(x), states, maps

    def loss(self, textures: Int[Tensor, "row cell"], label: Int[Tensor, " row"]) -> Float[Tensor, ""]:
        """Cross-entropy of the texture and of the class at every cell, and of the class at the class token."""
        last = self(textures)[0]
        cells, whole = last[:, : self.cells], last[:, self.cells]
        own = functional.cross_entropy(self.own(cells).flatten(0, 1), textures.flatten())
        spread = label[:, None].expand(-1, self.cells).flatten()
        everywhere = functional.cross_entropy(self.whole(cells).flatten(0, 1), spread)
        return own + everywhere + functional.cross_entropy(self.whole(whole), label)
