"""Numbers about whole curves and tails: where a mean curve crosses a line, and quantiles of kept rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from depthscope.engine.measured import DRAWS, Axes
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument, Rows
from depthscope.measures.statistics import bootstrap_curve, bootstrap_quantile
from depthscope.results.measurement import Measurement

Reached = Callable[[np.ndarray], np.ndarray]


def crossing(found: PerDocument, reached: Reached, name: str, facts: Facts, note: str) -> Measurement:
    """The first state from which on a condition on the mean curve holds for good, with an interval over units.

    Later states count: a condition that holds once and is lost again has not been reached.

    Args:
        found: sums and counts [unit, state]. reached: curves [draw, state] -> bool [draw, state], true at state L.
    """
    interval = bootstrap_curve(found.sums, found.counts, lambda c: for_good(reached(c)), DRAWS, facts.seed)
    n, n_items = int((found.counts > 0).any(1).sum()), int(found.counts[:, -1].sum())
    value, low, high = (np.asarray(each) for each in interval)
    return Measurement(name, {}, value, "1", low, high, np.asarray(n), np.asarray(n_items), note)


def for_good(held: np.ndarray) -> np.ndarray:
    """Bool [.., state] -> the first state from which on all are True; the number of states where the last is not."""
    later = np.logical_and.accumulate(held[..., ::-1], axis=-1)[..., ::-1]
    return np.where(later.any(-1), later.argmax(-1), held.shape[-1]).astype(np.float64)


def area(curve: np.ndarray) -> np.ndarray:
    """Area under curves [.., state] over relative depth 0..1, by trapezoids."""
    return (curve[..., 1:] + curve[..., :-1]).mean(-1) / 2


def quantile(
    rows: Rows, column: str, share: float, name: str, axes: Axes, unit: str, facts: Facts, note: str = ""
) -> Measurement:
    """A quantile of kept rows with a 95 % bootstrap interval over the units in column `unit`, cell by cell."""
    values, units = rows.columns[column], rows.columns["unit"]
    cells = values.reshape(len(values), -1).astype(np.float64)
    found = [bootstrap_quantile(cells[:, k], units, share, DRAWS, facts.seed) for k in range(cells.shape[1])]
    shape = values.shape[1:]
    value, low, high = (np.asarray([f[i] for f in found], np.float64).reshape(shape) for i in range(3))
    labels = {axis: np.asarray(names) for axis, names in axes.items()}
    n, n_items = np.full(shape, len(np.unique(units))), np.full(shape, len(values))
    missing = "no item was observed" if np.isnan(value).any() else ""
    return Measurement(name, labels, value, unit, low, high, n, n_items, note, missing)
