"""Registers: whether tokens without a place take over what background cells do otherwise.

Question: Do cells without content serve an encoder as places to gather what the whole picture is, and do registers take
that over?

Method: The same small encoder is trained on synthetic pictures with 0, 1 and 4 registers. On held-out pictures, by
layer and kind of token (background cells, other cells, the class token, registers): received, the attention that a
token of that kind gets over what it would get if all tokens got alike; norm_ratio, the largest norm over the median;
class_probe and own_probe, what linear probes read of the picture's class and of the cell's own texture. accuracy is
that of both tasks.

How to read: With no registers, background cells that receive more than 1 and tell the class better than other cells do
are used as registers. With registers that should go back, and the registers receive most.

What misleads: Outliers of norm appear in large models only; here what counts is attention and probes. One training each
is one draw.

Source: Darcet et al. 2024, Vision Transformers Need Registers (arXiv 2309.16588); the small demonstration is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.fits.register_net import Pictures, RegisterNet
from depthscope.measures.token_probes import ridge_predictions
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings

KINDS = ("background", "foreground", "class_token", "register")
JUDGED = 256
PROBED = 600


def _unheard(registers: int, step: int) -> None:
    del registers, step


@dataclass(frozen=True)
class Registers:
    """What is trained.

    Args:
        counts: numbers of registers. width, layers, heads: sizes. steps, rows, lr: of each training.
    """

    counts: tuple[int, ...] = (0, 1, 4)
    width: int = 32
    layers: int = 3
    heads: int = 4
    steps: int = 500
    rows: int = 32
    lr: float = 3e-3
    seed: int = 0
    pictures: Pictures = field(default_factory=Pictures)

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 0 or self.width % self.heads or self.steps < 1:
            raise BadInput(
                f"counts={self.counts}, width={self.width}, heads={self.heads}, steps={self.steps}: counts are 0 or "
                "more, the width a multiple of the heads, and there is at least one step"
            )

    def run(self, watch: Callable[[int, int], None] = _unheard) -> Findings:
        """Train one encoder a count of registers, and judge each on the same held-out pictures."""
        found = {count: self._judged(self._trained(count, watch), count) for count in self.counts}
        return _findings(found, self)

    def _trained(self, count: int, watch: Callable[[int, int], None]) -> RegisterNet:
        torch.manual_seed(self.seed)
        net = RegisterNet(self.pictures, count, self.width, self.layers, self.heads)
        descent = torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=0.01)
        generator = torch.Generator().manual_seed(self.seed + 1)
        for step in range(self.steps):
            loss = net.loss(*self.pictures.draw(self.rows, generator))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            descent.step()
            descent.zero_grad(set_to_none=True)
            watch(count, step)
        return net.eval()

    @torch.no_grad()
    def _judged(self, net: RegisterNet, count: int) -> dict[str, np.ndarray]:
        textures, label = self.pictures.draw(JUDGED, torch.Generator().manual_seed(self.seed + 2))
        last, states, maps = net(textures)
        cells = self.pictures.side**2
        kinds = torch.full((JUDGED, cells + 1 + count), KINDS.index("register"))
        kinds[:, :cells] = (textures > 0).long()
        kinds[:, cells] = KINDS.index("class_token")
        own = net.own(last[:, :cells]).argmax(-1) == textures
        everywhere = net.whole(last[:, :cells]).argmax(-1) == label[:, None]
        whole = net.whole(last[:, cells]).argmax(-1) == label
        return {
            "accuracy": np.array([float(x.float().mean()) for x in (own, everywhere, whole)]),
            "received": np.stack([_received(a, kinds) for a in maps]),
            "norm_ratio": np.array([_norm_ratio(s[:, :cells]) for s in states[1:]]),
            "class_probe": np.stack(
                [_probed(s, kinds, _spread(label, kinds), self.seed) for s in states[1:]]
            ),
            "own_probe": np.stack([_probed(s, kinds, _own(textures, kinds), self.seed) for s in states[1:]]),
        }


def _received(attention: Tensor, kinds: Tensor) -> np.ndarray:
    """Attention that a token gets over the mean of all tokens, by kind; NaN where there is none of a kind."""
    got = attention.mean(1).sum(1)  # over heads and queries: every row of a picture sums to its tokens
    return np.array([float(got[kinds == k].mean()) if bool((kinds == k).any()) else np.nan for k in range(4)])


def _norm_ratio(cells: Tensor) -> float:
    norms = torch.linalg.vector_norm(cells, dim=-1)
    return float((norms.max(1).values / norms.median(1).values).mean())


def _spread(label: Tensor, kinds: Tensor) -> Tensor:
    return label[:, None].expand_as(kinds)


def _own(textures: Tensor, kinds: Tensor) -> Tensor:
    """The texture of each cell; -1 for tokens that have none."""
    found = torch.full_like(kinds, -1)
    found[:, : textures.shape[1]] = textures
    return found


def _probed(state: Tensor, kinds: Tensor, wanted: Tensor, seed: int) -> np.ndarray:
    """Accuracy of a linear probe for each kind, trained on half of the pictures and judged on the other."""
    found = np.full(4, np.nan)
    half = torch.arange(len(state))[:, None].expand_as(kinds) < len(state) // 2
    for kind in range(4):
        mine = (kinds == kind) & (wanted >= 0)
        train, test = (torch.nonzero(mine & side) for side in (half, ~half))
        if min(len(train), len(test)) < 20 or len(torch.unique(wanted[mine])) < 2:
            continue
        order = np.random.default_rng([seed, kind])
        train, test = (t[torch.from_numpy(order.permutation(len(t))[:PROBED])] for t in (train, test))
        x, z = (state[t[:, 0], t[:, 1]].double().numpy() for t in (train, test))
        y, truth = (wanted[t[:, 0], t[:, 1]].numpy() for t in (train, test))
        guess = ridge_predictions(x, np.eye(int(wanted.max()) + 1)[y], z).argmax(1)
        found[kind] = float((guess == truth).mean())
    return found


def _findings(found: dict[int, dict[str, np.ndarray]], asked: Registers) -> Findings:
    names = np.array([f"{count} registers" for count in found])
    layers = np.arange(asked.layers)
    by_kind = {"variant": names, "layer": layers, "token": np.array(KINDS)}
    none = "there are no such tokens, or they have no texture of their own"

    def stacked(name: str) -> np.ndarray:
        return np.stack([one[name] for one in found.values()])

    tasks = {"variant": names, "task": np.array(["own_texture", "class_at_cells", "class_at_class_token"])}
    judged = f"{JUDGED} held-out pictures"
    made = [
        Measurement("accuracy", tasks, stacked("accuracy"), "probability", note=judged),
        Measurement(
            "received", by_kind, stacked("received"), "1", note=f"1 is an even share; {judged}", missing=none
        ),
        Measurement(
            "norm_ratio", {"variant": names, "layer": layers}, stacked("norm_ratio"), "1", note=judged
        ),
        Measurement("class_probe", by_kind, stacked("class_probe"), "probability", note=judged, missing=none),
        Measurement("own_probe", by_kind, stacked("own_probe"), "probability", note=judged, missing=none),
    ]
    return Findings({m.name: m for m in made})
