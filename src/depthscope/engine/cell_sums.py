"""Sums of one value a row in cells of further axes, filled cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from depthscope.engine.tally import PerDocument, Tally


@dataclass(frozen=True)
class Cells:
    """Named sums [row, *shape] of values given for one cell at a time; several values may go to one cell.

    Args:
        units: the independent unit of each row.
    """

    units: Sequence[str]
    shape: tuple[int, ...]
    _sums: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    _counts: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def add(self, name: str, values: np.ndarray, cell: tuple[int, ...]) -> None:
        """One value a row into a cell; what is not finite is not counted."""
        self._put(name, values, (slice(None), *cell))

    def add_row(self, name: str, row: int, values: np.ndarray | float, cell: tuple[int, ...]) -> None:
        """One row's values into a cell, or into all cells below the first indices of one."""
        self._put(name, values, (row, *cell))

    def add_all(self, values: Mapping[str, np.ndarray], cell: tuple[int, ...]) -> None:
        """Several names into one cell."""
        for name, one in values.items():
            self.add(name, one, cell)

    def _put(self, name: str, values: np.ndarray | float, place: tuple[int | slice, ...]) -> None:
        shape = (len(self.units), *self.shape)
        sums = self._sums.setdefault(name, np.zeros(shape))
        counts = self._counts.setdefault(name, np.zeros(shape, np.int64))
        fine = np.isfinite(values)
        sums[place] += np.where(fine, values, 0.0)
        counts[place] += fine

    def tally(self) -> Tally:
        """One part a name, summed over rows of one unit."""
        return Tally(
            {
                name: PerDocument.of_sums(self.units, sums, self._counts[name])
                for name, sums in self._sums.items()
            }
        )


def at_cell(found: PerDocument, cell: tuple[int, ...]) -> PerDocument:
    """The sums at the first indices of the cells' axes."""
    return PerDocument(found.units, found.sums[(slice(None), *cell)], found.counts[(slice(None), *cell)])
