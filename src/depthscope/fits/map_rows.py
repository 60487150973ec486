"""The rows that linear maps are fitted on: states, or what layers add, of two models at the same positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.fits.states import Read, Split, read
from depthscope.materials.window import Window
from depthscope.measures.linear_map import directions
from depthscope.runtime.model import Model

CHOOSING = 64
"""Random directions of each target state that the penalty is chosen on."""


class Source(NamedTuple):
    """One source: the number of its state or layer, and whether its rows are paired with other positions' targets."""

    number: int
    shuffled: bool = False


@dataclass(frozen=True)
class Pair:
    """Two models (or one twice) and what of the first is mapped onto what of the second.

    Args:
        targets: numbers of the target states, or of layers with `differences`, which takes c = h_{l+1} - h_l.
        rows: "rms" divides each row by its root mean square before anything else, "raw" takes it as it is.
        width: random directions that targets are projected on; the whole width where it is not larger, or 0.
    """

    source: Model
    target: Model
    targets: tuple[int, ...]
    differences: bool = False
    rows: str = "raw"
    width: int = 512
    seed: int = 0

    @property
    def kept(self) -> int:
        """Columns of each target."""
        wide = self.target.anatomy.d_model
        return min(self.width, wide) if self.width else wide

    @property
    def projected(self) -> bool:
        """True where targets are seen on random directions only."""
        return self.kept < self.target.anatomy.d_model

    @property
    def precision(self) -> torch.dtype:
        """The type of products."""
        return torch.promote_types(self.source.head.precision, self.target.head.precision)

    @cached_property
    def bases(self) -> Float[Tensor, "state d_model kept"]:
        """The directions of each target state."""
        wide = self.target.anatomy.d_model
        found = [directions(wide, self.kept, 1_000_003 * self.seed + number) for number in self.targets]
        return torch.stack(found).to(self.source.device, self.precision)

    @cached_property
    def looks(self) -> Float[Tensor, "state kept look"]:
        """The directions within each target's columns that penalties are chosen on."""
        each = min(CHOOSING, self.kept)
        found = [directions(self.kept, each, 1_000_003 * self.seed - 1 - number) for number in self.targets]
        return torch.stack(found).to(self.source.device, self.precision)

    def bytes_of_source(self) -> int:
        """Memory of the sums of one source, while they are solved."""
        d, columns = self.source.anatomy.d_model, len(self.targets) * self.kept
        return 24 * d * d + 12 * d * columns + 4 * d * len(self.targets) * min(CHOOSING, self.kept)

    def items(self, windows: Sequence[Window]) -> Items:
        """One pass of each model over windows of equal length; positions that are a sink in either are left out."""
        near = read(self.source, windows)
        far = near if self.target is self.source else read(self.target, windows)
        return Items(self, near, far, near.kept & far.kept.to(near.kept.device))


@dataclass(frozen=True)
class Items:
    """The kept positions of one batch."""

    pair: Pair
    near: Read
    far: Read
    kept: Bool[Tensor, "row position"]

    @property
    def count(self) -> int:
        """Positions."""
        return int(self.kept.sum())

    def units(self, place: dict[str, int], parts: Split) -> Tensor:
        """The place of each position's unit."""
        of_row = [place[parts.unit_of[w.index]] for w in self.near.windows]
        return torch.tensor(of_row)[self.kept.nonzero()[:, 0].cpu()].to(self.kept.device)

    def source(self, asked: Source) -> Float[Tensor, "item d_source"]:
        """Rows of one source; shuffled rows belong to other positions of the batch."""
        found = self._rows(self.near, asked.number)
        if not asked.shuffled:
            return found
        order = np.random.default_rng([self.pair.seed, self.near.windows[0].index]).permutation(len(found))
        return found[torch.from_numpy(order).to(found.device)]

    @cached_property
    def targets(self) -> tuple[Float[Tensor, "item state kept"], Float[Tensor, "item state"]]:
        """Targets on their directions, and the norms of the whole rows."""
        found, norms = [], []
        for number, basis in zip(self.pair.targets, self.pair.bases, strict=True):
            row = self._rows(self.far, number).to(self.kept.device)
            found.append(row @ basis if self.pair.projected else row)
            norms.append(torch.linalg.vector_norm(row, dim=-1).clamp_min(1e-6))
        return torch.stack(found, 1), torch.stack(norms, 1)

    def _rows(self, found: Read, number: int) -> Tensor:
        at = self.kept.to(found.kept.device)
        value = found.state(number, at).to(self.pair.precision)
        if self.pair.differences:
            value = found.state(number + 1, at).to(self.pair.precision) - value
        if self.pair.rows == "rms":
            value = value / value.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)
        return value
