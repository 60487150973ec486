"""From items to measurements by cell: means, medians and regressions, cells with too few units are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.engine.measured import DRAWS
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.measures.statistics import bootstrap_median, bootstrap_ratio, bootstrap_regression
from depthscope.results.measurement import Measurement

Axes = Mapping[str, Sequence[object] | np.ndarray]


@dataclass(frozen=True)
class Items:
    """Items with their independent units, and how many units a cell needs.

    Every method takes values [item, *cells], NaN where an item is not in a cell, and gives a measurement whose cells
    with fewer than `fewest` units are missing: "insufficient: 12 facts where 50 are needed".

    Args:
        unit: the unit of each item. noun: what units are called in reasons. fewest: units that a cell needs.
    """

    unit: np.ndarray
    facts: Facts
    fewest: int = 1
    noun: str = "facts"

    def mean(self, values: np.ndarray, name: str, axes: Axes, unit: str, note: str = "") -> Measurement:
        """Mean over items with a 95 % bootstrap interval over units."""
        if not len(values):
            return self._made(name, axes, unit, note, *_nothing(axes))
        sums = PerDocument.of(self.unit.tolist(), values)
        found = np.stack(bootstrap_ratio(sums.sums, sums.counts, DRAWS, self.facts.seed))
        counts = np.asarray((sums.counts > 0).sum(0)), np.asarray(sums.counts.sum(0))
        return self._made(name, axes, unit, note, found, *counts)

    def median(self, values: np.ndarray, name: str, axes: Axes, unit: str, note: str = "") -> Measurement:
        """Median over items with a 95 % bootstrap interval over units."""
        found, n, n_items = _nothing(axes)
        for cell, column, units in self._cells(values):
            n[cell], n_items[cell] = len(np.unique(units)), len(units)
            if n[cell] >= self.fewest:
                found[(slice(None), *cell)] = bootstrap_median(column, units, DRAWS, self.facts.seed)
        return self._made(name, axes, unit, note, found, n, n_items)

    def coefficient(
        self,
        values: np.ndarray,
        design: np.ndarray,
        column: int,
        name: str,
        axes: Axes,
        unit: str,
        note: str = "",
        sides: np.ndarray | None = None,
    ) -> Measurement:
        """One coefficient of a least-squares regression on design [item, column] in each cell.

        Args:
            sides: [item, side], True where an item is on a side of the comparison; a cell needs `fewest` units on each.
        """
        groups = np.ones((len(design), 1), bool) if sides is None else sides
        found, n, n_items = _nothing(axes)
        for cell, at, units in self._cells(values, where=True):
            n[cell] = min(len(np.unique(units[side])) for side in groups[at].T)
            n_items[cell] = len(units)
            if n[cell] >= self.fewest:
                y = values[(at, *cell)]
                fitted = bootstrap_regression(design[at], y, units, DRAWS, self.facts.seed)
                found[(slice(None), *cell)] = [part[column] for part in fitted]
        return self._made(name, axes, unit, note, found, n, n_items)

    def _cells(
        self, values: np.ndarray, where: bool = False
    ) -> list[tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
        """Each cell, its values (or the places of their items), and their units."""
        shape = values.shape[1:]
        places = {
            cell: np.flatnonzero(np.isfinite(values[(slice(None), *cell)])) for cell in np.ndindex(shape)
        }
        return [(c, at if where else values[(at, *c)], self.unit[at]) for c, at in places.items()]

    def _made(
        self,
        name: str,
        axes: Axes,
        unit: str,
        note: str,
        found: np.ndarray,
        n: np.ndarray,
        n_items: np.ndarray,
    ) -> Measurement:
        few = n < max(1, self.fewest)
        value, low, high = (np.asarray(part) for part in np.where(few, np.nan, found))
        labels = {axis: np.asarray(names) for axis, names in axes.items()}
        reason = ""
        if few.any():
            counts = str(n[few].min()) if np.ptp(n[few]) == 0 else f"{n[few].min()} to {n[few].max()}"
            reason = f"insufficient: {counts} {self.noun} where {max(1, self.fewest)} are needed"
        elif np.isnan(value).any():
            reason = "insufficient: these items do not determine the value"
        return Measurement(name, labels, value, unit, low, high, n, n_items, note, reason)


def inside(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Values [item, *a] in the cells [item, *b] that chose them: [item, *a, *b], NaN elsewhere."""
    wide = values.astype(np.float64).reshape(*values.shape, *([1] * (chosen.ndim - 1)))
    at = chosen.reshape(len(chosen), *([1] * (values.ndim - 1)), *chosen.shape[1:])
    return np.where(at, wide, np.nan)


def _nothing(axes: Axes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value and ends of cells without any item, and their counts."""
    shape = tuple(len(names) for names in axes.values())
    return np.full((3, *shape), np.nan), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
