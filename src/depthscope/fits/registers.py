"""Registers: whether tokens without a place take over what background cells do otherwise.

Question: Do cells without content serve an encoder as places to gather what the whole picture is, and do registers take
that over?

Method: The same small encoder is trained on synthetic pictures with 0, 1 and 4 registers, from equal weights and on the
same pictures. On held-out pictures, by layer and kind of token (background cells, other cells, the class token,
registers): received, the attention that a token of that kind gets over what it would get if all tokens got alike;
norm_ratio, the largest norm of a cell over the median; outlier_share, cells above four medians; class_probe and
own_probe, the share of tokens whose picture's class and whose own texture a linear probe reads, in pictures that it was
not trained on. accuracy is that of the encoder's tasks. Units are pictures.

How to read: With no registers, background cells that receive more than 1 and tell the class better than other cells do
are used as registers. With registers that should go back, and the registers receive most.

What misleads: Outliers of norm appear in large models only; here what counts is attention and probes. One training each
is one draw, which intervals over pictures do not hold: repeat it with other seeds.

Source: Darcet et al. 2024, Vision Transformers Need Registers (arXiv 2309.16588); the small demonstration is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Kind
from depthscope.engine.cells import Items
from depthscope.engine.journal import Journal
from depthscope.engine.needs import Facts
from depthscope.engine.picture_tokens import (
    KINDS,
    Probed,
    as_json,
    from_json,
    norms,
    received,
    token_measurements,
)
from depthscope.engine.progress import Progress
from depthscope.errors import NonFinite
from depthscope.fits.register_net import RegisterNet
from depthscope.fits.shown_layer import must_be_trainable
from depthscope.materials.pictures import Pictures
from depthscope.ranges import at_least
from depthscope.results.result import Findings

JUDGED = 256
TASKS = ("own_texture", "class_at_cells", "class_at_class_token")


@dataclass(frozen=True)
class Registers:
    """What is trained.

    Args:
        counts: numbers of registers. width, layers, heads: sizes. steps, rows, lr: of each training.
        side, textures: of the pictures, see `materials.pictures`.
    """

    counts: tuple[int, ...] = (0, 1, 4)
    width: int = 32
    layers: int = 3
    heads: int = 4
    steps: int = 500
    rows: int = 32
    lr: float = 3e-3
    side: int = 6
    textures: int = 8

    def __post_init__(self) -> None:
        must_be_trainable(self, self.width, self.heads, counts=at_least(0))
        self.pictures()

    def pictures(self) -> Pictures:
        """What the pictures are like."""
        return Pictures(self.side, self.textures)

    def made(self) -> Mapping[str, Any]:
        """The encoders, for the manifest."""
        said = ", ".join(map(str, self.counts))
        return {
            "name": f"small encoders with {said} registers", "n_layers": self.layers, "n_heads": self.heads,
            "d_model": self.width, "source": f"synthetic pictures, {self.side} x {self.side} cells",
        }  # fmt: skip

    def run(self, journal: Journal, seed: int, progress: Progress) -> Findings:
        """Train one encoder a count of registers, and judge each on the same held-out pictures."""
        found: list[dict[str, np.ndarray]] = []
        for place, count in enumerate(self.counts):
            about = {
                "registers": count, "seed": seed, "pictures": [self.side, self.textures],
                "sizes": [self.width, self.layers, self.heads], "course": [self.steps, self.rows, self.lr],
            }  # fmt: skip
            stored = journal.step(
                "training",
                about,
                lambda count=count, place=place: self._one(count, seed, place, progress),
            )
            found.append(from_json(stored))
        names = [f"{count} registers" for count in self.counts]
        return _findings(found, names, self._facts(seed))

    def _facts(self, seed: int) -> Facts:
        kind: Kind = "attention"
        return Facts(
            self.layers, self.heads, self.width, (kind,) * self.layers, (None,) * self.layers, causal=False,
            parallel=False, post_norm=False, has_unembedding=False, units="pictures", seed=seed,
            model=str(self.made()["name"]),
        )  # fmt: skip

    def _one(self, count: int, seed: int, place: int, progress: Progress) -> dict[str, object]:
        net = self._trained(count, seed, place, progress)
        return as_json(self._judged(net, seed))

    def _trained(self, count: int, seed: int, place: int, progress: Progress) -> RegisterNet:
        torch.manual_seed(seed)
        net = RegisterNet(self.pictures(), count, self.width, self.layers, self.heads)
        descent = torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=0.01)
        generator = torch.Generator().manual_seed(seed + 1)
        for step in range(self.steps):
            loss = net.loss(*self.pictures().draw(self.rows, generator))
            if not torch.isfinite(loss):
                raise NonFinite(
                    f"the loss of {count} registers at step {step} is {loss.item()}; give a smaller --lr"
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            descent.step()
            descent.zero_grad(set_to_none=True)
            progress("train", place * self.steps + step + 1, len(self.counts) * self.steps)
        return net.eval()

    @torch.no_grad()
    def _judged(self, net: RegisterNet, seed: int) -> dict[str, np.ndarray]:
        """Scores of every held-out picture."""
        textures, label = self.pictures().draw(JUDGED, torch.Generator().manual_seed(seed + 2))
        last, states, maps = net(textures)
        kinds, own = kinds_of(textures, last.shape[1])
        probed = Probed.of(kinds, label, own, seed)
        vectors = torch.stack([s[probed.row, probed.position] for s in states[1:]], 1).numpy()
        sizes = [norms(s, kinds < KINDS.index("class_token")) for s in states[1:]]
        return {
            "accuracy": _right(net, last, textures, label),
            "received": np.stack([received(a, kinds) for a in maps], 1),
            "norm_ratio": np.stack([ratio for ratio, _ in sizes], 1),
            "outlier_share": np.stack([share for _, share in sizes], 1),
            **probed.scores(vectors),
        }


def kinds_of(textures: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Kind and own texture (-1 for none) of every token: cells, then the class token, then registers."""
    cells = textures.shape[1]
    kinds = torch.full((len(textures), tokens), KINDS.index("register"))
    kinds[:, :cells] = (textures > 0).long()
    kinds[:, cells] = KINDS.index("class_token")
    own = torch.full_like(kinds, -1)
    own[:, :cells] = textures
    return kinds, own


def _right(net: RegisterNet, last: Tensor, textures: Tensor, label: Tensor) -> np.ndarray:
    """Share of a picture's answers that are right, [row, task]."""
    cells = textures.shape[1]
    own = net.own(last[:, :cells]).argmax(-1) == textures
    everywhere = net.whole(last[:, :cells]).argmax(-1) == label[:, None]
    whole = net.whole(last[:, cells]).argmax(-1) == label
    return torch.stack([own.double().mean(1), everywhere.double().mean(1), whole.double()], 1).numpy()


def _findings(found: list[dict[str, np.ndarray]], names: list[str], facts: Facts) -> Findings:
    values = np.stack([one["accuracy"] for one in found], 1)
    items = Items(np.array([f"picture-{k:05d}" for k in range(len(values))]), facts, noun="pictures")
    axes = {"variant": np.array(names), "task": np.array(TASKS)}
    accuracy = items.mean(values, "accuracy", axes, "probability", "held-out pictures")
    made = [accuracy, *token_measurements(found, names, facts)]
    return Findings({m.name: m for m in made})
