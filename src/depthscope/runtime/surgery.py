"""Plans of surgery: orders of layers whose middle is left out, mixed up, repeated, or run side by side.

The operators are those of Sun et al. 2024 (arXiv 2407.09298); deletions and swaps of single layers those of Lad et al.
2024 (arXiv 2406.19384).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy, Layer
from depthscope.errors import BadInput
from depthscope.runtime.orders import Order, without
from depthscope.runtime.replay import Parallel, Without

PLANS = (
    "skip", "reverse", "shuffle", "repeat_centre", "loop", "loop_parallel", "parallel_mean", "parallel_sum",
)  # fmt: skip
"""What can be done to the middle, in the order of results."""
SINGLE = ("drop", "swap", "attention", "mlp")
"""What can be done to one layer: left out, exchanged with the next one, left without its mixer or its MLP."""


@dataclass(frozen=True)
class Middle:
    """The layers start..stop-1 of n_layers, which surgery alters; the others stay as they are.

    Raises:
        BadInput: where there is no such stretch of layers.
    """

    start: int
    stop: int
    n_layers: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= self.n_layers:
            raise BadInput(
                f"layers {self.start} to {self.stop - 1} are no stretch of the layers 0 to {self.n_layers - 1}"
            )

    @classmethod
    def of_kept(cls, kept: int, n_layers: int) -> Middle:
        """The central stretch that leaves `kept` layers as they are, of an odd number one more before than behind.

        With kept = 2 s + 1 the first s + 1 and the last s layers stay, as in the Painters' segments.
        """
        start = (kept + 1) // 2
        return cls(start, n_layers - kept // 2, n_layers)

    @property
    def layers(self) -> tuple[int, ...]:
        """The altered layers in their own order."""
        return tuple(range(self.start, self.stop))

    def order(self, *middle: int | Parallel) -> Order:
        """The whole order of layers with other steps in the middle."""
        return (*range(self.start), *middle, *range(self.stop, self.n_layers))

    def plans(self, loops: int = 2, parallel_loops: int = 3, seed: int = 0) -> Mapping[str, Order]:
        """Every plan of PLANS by name.

        skip: nothing; reverse: last to first; shuffle: a seeded order that is not their own where there is another;
        repeat_centre: the network's central layer (the stretch's own where it lies elsewhere) as often as there are
        layers; loop: all of them `loops` times; loop_parallel: all side by side, outputs averaged, `parallel_loops`
        times; parallel_mean, parallel_sum: side by side once, outputs averaged or writes added.
        """
        layers = self.layers
        centre = self.n_layers // 2
        centre = centre if centre in layers else layers[len(layers) // 2]
        return {
            "skip": self.order(),
            "reverse": self.order(*reversed(layers)),
            "shuffle": self.order(*_shuffled(layers, seed)),
            "repeat_centre": self.order(*[centre] * len(layers)),
            "loop": self.order(*layers * loops),
            "loop_parallel": self.order(*[Parallel(layers)] * parallel_loops),
            "parallel_mean": self.order(Parallel(layers)),
            "parallel_sum": self.order(Parallel(layers, "sum")),
        }


def single_plans(anatomy: Anatomy, kinds: tuple[str, ...] = SINGLE) -> Mapping[tuple[int, str], Order]:
    """(layer, kind) -> order, for every layer and each kind of SINGLE that it allows.

    A swap exchanges a layer with the next one, so the last layer has none.
    """
    found = {(x.index, kind): _single(x, kind, anatomy.n_layers) for x in anatomy.layers for kind in kinds}
    return {key: order for key, order in found.items() if order is not None}


def _single(layer: Layer, kind: str, n_layers: int) -> Order | None:
    k, rest = layer.index, range(layer.index + 1, n_layers)
    if kind == "drop":
        return without(n_layers, {k})
    if kind == "swap":
        return (*range(k), k + 1, k, *range(k + 2, n_layers)) if k + 1 < n_layers else None
    if kind == "attention":
        return (*range(k), Without(k, "attention"), *rest) if layer.mixers() else None
    if kind == "mlp":
        return (*range(k), Without(k, "mlp"), *rest) if layer.mlp else None
    raise BadInput(f"surgery on one layer is {', '.join(SINGLE)}; {kind!r} is none of them")


def middles(n_layers: int, kept: tuple[int, ...] = ()) -> dict[int, Middle]:
    """Kept layers -> the altered middle, most layers kept first; by default a fifth, two and three fifths are altered.

    Raises:
        BadInput: where fewer than 1 or more than all layers would be altered.
    """
    if not kept:
        widths = {min(n_layers, max(2, round(share * n_layers))) for share in (0.2, 0.4, 0.6)}
        kept = tuple(n_layers - width for width in widths)
    wrong = [k for k in kept if not 0 <= k < n_layers]
    if wrong:
        raise BadInput(f"kept={wrong}; of {n_layers} layers 0 to {n_layers - 1} can be kept as they are")
    return {k: Middle.of_kept(k, n_layers) for k in sorted(set(kept), reverse=True)}


def _shuffled(layers: tuple[int, ...], seed: int) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    mixed = list(layers)
    while len(layers) > 1 and tuple(mixed) == layers:
        mixed = rng.permutation(layers).tolist()
    return tuple(mixed)
