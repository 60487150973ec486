"""A small causal transformer whose heads may hold a key and a value of their own, and sequences for it.

In a sequence every token follows from the one before by fixed odds, but for a few triggers: behind one of these comes
the token before it once more. A head that looks back is needed behind triggers and has nothing to do elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from depthscope.fits.shown_layer import ShownLayer

START = 0
LOUD = 3**-0.5
"""Deviation of pairs at the start: that of the keys and values of tokens, whose projections are drawn as torch does."""


@dataclass(frozen=True)
class Chains:
    """What sequences are like.

    Args:
        tokens: the vocabulary; 0 stands first in every sequence and nowhere else. triggers: tokens 1 .. triggers.
        length: tokens of a sequence. sharp: how far the odds of followers differ, as the deviation of their logarithms.
        seed: of the odds.
    """

    tokens: int = 24
    triggers: int = 3
    length: int = 48
    sharp: float = 1.5
    seed: int = 0

    def odds(self) -> Float[Tensor, "token token"]:
        """Of what follows each token, triggers left to the copy; rows sum to 1."""
        generator = torch.Generator().manual_seed(self.seed)
        scores = self.sharp * torch.randn(self.tokens, self.tokens, generator=generator)
        scores[:, START] = -torch.inf
        return scores.softmax(-1)

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "row token"]:
        """Sequences; behind a trigger stands what stood before it, unless that is the start."""
        odds = self.odds()
        found = torch.zeros(count, self.length, dtype=torch.long)
        for place in range(1, self.length):
            last = found[:, place - 1]
            drawn = torch.multinomial(odds[last], 1, generator=generator)[:, 0]
            copies = self.copies(found[:, :place])[:, -1]
            found[:, place] = torch.where(copies, found[:, max(0, place - 2)], drawn)
        return found

    def copies(self, ids: Int[Tensor, "row token"]) -> Tensor:
        """Where the next token is a copy: on triggers that have a token behind the start before them, [row token]."""
        on = (ids >= 1) & (ids <= self.triggers)
        before = functional.pad(ids[:, :-1], (1, 0), value=START)
        return on & (before != START)


class BiasNet(nn.Module):
    """The model: tokens with learned places, layers, an unembedding of its own."""

    def __init__(self, chains: Chains, width: int, layers: int, heads: int, pair: bool) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(chains.tokens, width), nn.Embedding(chains.length, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, chains.tokens)
        self.layers = nn.ModuleList(ShownLayer(width, heads, causal=True) for _ in range(layers))
        for layer in self.layers if pair else ():
            # drawn last, so that networks of one seed are equal but for the pairs
            layer.pair = nn.Parameter(LOUD * torch.randn(2, 1, heads, 1, width // heads))

    def forward(self, ids: Int[Tensor, "row token"]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits, the stream behind each layer, and each layer's attention."""
        x = self.token(ids) + self.place.weight[: ids.shape[1]]
        states, maps = list[Tensor](), list[Tensor]()
        for layer in self.layers:
            x, attention = layer(x)
            states.append(x)
            maps.append(attention)
        return self.head(self.norm(x)), states, maps

    def losses(self, ids: Int[Tensor, "row token"]) -> Float[Tensor, "row later"]:
        """Cross-entropy in nats of every token but the first."""
        logits = self(ids)[0][:, :-1]
        return functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
