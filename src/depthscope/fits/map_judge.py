"""How far linear maps are from the targets of documents that they were not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from depthscope.fits.map_rows import Items, Pair, Source
from depthscope.fits.map_sums import Maps
from depthscope.fits.states import Split
from depthscope.measures.linear_map import direction_error

POSITIONS = 512
"""Positions that are mapped at a time while maps are judged."""
SUMMED: tuple[str, ...] = ("ratio", "error", "direction", "squared")
"""Of every source and target state and unit: sums over positions."""
ALONE: tuple[str, ...] = ("norm", "spread", "mean_ratio", "mean_error")
"""The same of every target state alone; `mean_*` belong to the mean of the training targets as the prediction."""


@dataclass(frozen=True)
class Judge:
    """Adds up how far maps are from the targets of held-out documents.

    Args:
        sums: name -> [unit source state] or [unit state]; `count` [unit]; `miss` [source column] and `whole` [column]
            are squared distances from prediction and training mean of each column.
    """

    pair: Pair
    maps: Maps
    group: tuple[Source, ...]
    units: tuple[str, ...]
    sums: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        u, s, t = len(self.units), len(self.group), len(self.pair.targets)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(SUMMED, (u, s, t))
        shapes |= dict.fromkeys(ALONE, (u, t)) | {"count": (u,)}
        shapes |= {"miss": (s, t * self.pair.kept), "whole": (t * self.pair.kept,)}
        device = self.pair.source.device
        self.sums.update({n: torch.zeros(v, dtype=torch.float64, device=device) for n, v in shapes.items()})

    def add(self, items: Items, parts: Split) -> None:
        """The positions of one batch."""
        place = items.units({name: k for k, name in enumerate(self.units)}, parts)
        rows = [items.source(source) for source in self.group]
        y, norms = items.targets
        for start in range(0, items.count, POSITIONS):
            at = slice(start, start + POSITIONS)
            self._add([row[at] for row in rows], y[at], norms[at], place[at])

    def _add(self, rows: Sequence[Tensor], y: Tensor, norms: Tensor, place: Tensor) -> None:
        centre = self.maps.centre_y.unflatten(0, y.shape[1:])
        away = (y - centre).square()
        self.sums["whole"] += away.sum(0, dtype=torch.float64).flatten()
        alone = self._lengths(away) / norms
        values = {"norm": norms, "spread": away.sum(-1), "mean_ratio": alone, "mean_error": alone * norms}
        for name, value in values.items():
            self.sums[name].index_add_(0, place, value.double())
        self.sums["count"].index_add_(0, place, torch.ones_like(place, dtype=torch.float64))
        for k, x in enumerate(rows):
            guess = centre + ((x - self.maps.centre_x[k]) @ self.maps.weights[k]).view_as(y)
            miss = (guess - y).square()
            self.sums["miss"][k] += miss.sum(0, dtype=torch.float64).flatten()
            length = self._lengths(miss)
            found = (length / norms, length, direction_error(guess, y), miss.sum(-1))
            for name, value in zip(SUMMED, found, strict=True):
                self.sums[name][:, k].index_add_(0, place, value.double())

    def _lengths(self, squares: Tensor) -> Tensor:
        """Lengths of whole rows from squares on some directions."""
        share = self.pair.kept / self.pair.target.anatomy.d_model
        return (squares.sum(-1) / share).sqrt()

    def found(self) -> dict[str, Any]:
        """The sums as nested lists, and the median over columns of 1 - miss / whole for each source and target."""
        miss, whole = (self.sums[name].unflatten(-1, (-1, self.pair.kept)) for name in ("miss", "whole"))
        r2 = torch.where(whole > 0, 1 - miss / whole.clamp_min(1e-300), torch.nan).nanmedian(-1).values
        kept = {name: value.tolist() for name, value in self.sums.items() if name not in ("miss", "whole")}
        return {**kept, "dimension_r2": torch.nan_to_num(r2, nan=0.0).tolist()}
