"""From totals to measurements: values with bootstrap intervals over units, and the counts behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.errors import BadInput
from depthscope.measures.statistics import bootstrap_difference, bootstrap_median, bootstrap_ratio
from depthscope.results.measurement import Measurement

P = TypeVar("P")
DRAWS = 1000
Axes = Mapping[str, Sequence[object] | np.ndarray]


def part(total: Tally, name: str, kind: type[P]) -> P:
    """A part of a tally, checked to be of the expected kind."""
    found = total.get(name)
    if not isinstance(found, kind):
        raise BadInput(
            f"the tally holds no {kind.__name__} {name!r}; it holds {', '.join(total) or 'nothing'}"
        )
    return found


def mean(
    found: PerDocument, name: str, axes: Axes, unit: str, facts: Facts, note: str = "", missing: str = ""
) -> Measurement:
    """Ratio of sums over units with a 95 % bootstrap interval; n counts units, n_items finite items."""
    interval = bootstrap_ratio(found.sums, found.counts, DRAWS, facts.seed)
    return _measurement(name, axes, unit, (*interval, *_counted(found)), note, missing)


def ratio(
    top: PerDocument,
    bottom: PerDocument,
    name: str,
    axes: Axes,
    unit: str,
    facts: Facts,
    note: str = "",
    missing: str = "",
) -> Measurement:
    """Ratio of two sums over the same units, with a 95 % bootstrap interval; 0 / 0 is missing."""
    if top.units != bottom.units:
        raise BadInput(f"{name}: the two sums of a ratio must be over the same units")
    interval = bootstrap_ratio(top.sums, bottom.sums, DRAWS, facts.seed)
    return _measurement(name, axes, unit, (*interval, *_counted(top)), note, missing)


def difference(
    first: PerDocument,
    second: PerDocument,
    name: str,
    axes: Axes,
    unit: str,
    facts: Facts,
    note: str = "",
    missing: str = "",
    weights: tuple[np.ndarray, np.ndarray] | None = None,
) -> Measurement:
    """Mean of the second minus mean of the first over the same units, resampled together, with a 95 % interval.

    n counts units with items of both. `weights` are what the sums of each side are divided by, if not their counts.
    """
    if first.units != second.units:
        raise BadInput(f"{name}: the two sides of a difference must be over the same units")
    below = weights or (first.counts, second.counts)
    interval = bootstrap_difference(first.sums, below[0], second.sums, below[1], DRAWS, facts.seed)
    both = np.asarray(((first.counts > 0) & (second.counts > 0)).sum(0))
    items = np.asarray((first.counts + second.counts).sum(0))
    return _measurement(name, axes, unit, (*interval, both, items), note, missing)


def median(
    rows: Rows, column: str, name: str, axes: Axes, unit: str, facts: Facts, note: str = ""
) -> Measurement:
    """Median over kept rows with a 95 % bootstrap interval over the units in column `unit`.

    The column may have cells after its first axis; each gets its own median, over its values that are not NaN.
    """
    values, units = rows.columns[column], rows.columns["unit"]
    cells = values.reshape(len(values), -1).astype(np.float64)
    found = [bootstrap_median(cells[:, k], units, DRAWS, facts.seed) for k in range(cells.shape[1])]
    shape = values.shape[1:]
    value, low, high = (np.asarray([f[i] for f in found], np.float64).reshape(shape) for i in range(3))
    fine = [~np.isnan(cell) for cell in cells.T]
    n = np.asarray([len(np.unique(units[at])) for at in fine]).reshape(shape)
    n_items = np.asarray([at.sum() for at in fine]).reshape(shape)
    return _measurement(name, axes, unit, (value, low, high, n, n_items), note, "")


def _counted(found: PerDocument) -> tuple[np.ndarray, np.ndarray]:
    """Units with an item, and items, of each cell."""
    return np.asarray((found.counts > 0).sum(0)), np.asarray(found.counts.sum(0))


def _measurement(
    name: str, axes: Axes, unit: str, parts: tuple[np.ndarray, ...], note: str, missing: str
) -> Measurement:
    value, low, high, n, n_items = parts
    labels = {axis: np.asarray(names) for axis, names in axes.items()}
    if np.isnan(value).any() and not missing:
        missing = "no finite item was observed in these cells"
    return Measurement(name, labels, value, unit, low, high, n, n_items, note, missing)


def states(facts: Facts) -> dict[str, np.ndarray]:
    """The state axis 0..L."""
    return {"state": np.arange(facts.n_layers + 1)}


def layers(facts: Facts) -> dict[str, np.ndarray]:
    """The layer axis 0..L-1."""
    return {"layer": np.arange(facts.n_layers)}
