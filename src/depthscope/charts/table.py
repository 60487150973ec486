"""Rows of a chart from a measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from depthscope.charts.specification import CELLS, Row
from depthscope.errors import BadInput
from depthscope.results.measurement import COLUMNS, Measurement
from depthscope.results.result import Result


def present(result: Result, names: Sequence[str]) -> dict[str, Measurement]:
    """Those of the named measurements that the result has.

    Raises:
        BadInput: when it has none of them.
    """
    there = {name: result[name] for name in names if name in result.findings.measurements}
    if not there:
        raise BadInput(f"{result.analysis} holds none of {', '.join(names)}; run it again with this version.")
    return there


def split(found: Measurement, axis: str) -> dict[str, Measurement]:
    """Label -> the measurement at that label of an axis, in the order of the axis."""
    return {str(label): found.select(**{axis: label}) for label in found.axes[axis]}


def rows(found: Measurement, **fixed: Any) -> list[Row]:
    """One row per cell: labels, value, low, high, n, n_items (None where missing), depth, and `fixed`."""
    columns = {name: np.asarray(values).tolist() for name, values in found.columns().items()}
    deep = next((axis for axis in ("state", "layer") if axis in found.axes), None)
    depth = relative_depth(found, deep) if deep else {}
    table: list[Row] = []
    for i in range(len(columns["value"])):
        row = {name: _plain(values[i]) for name, values in columns.items()}
        table.append(row | ({"depth": depth[row[deep]]} if deep else {}) | fixed)
    return table


def relative_depth(found: Measurement, axis: str) -> dict[Any, float]:
    """Label -> depth in [0, 1]: s / L for states, (layer + 1) / L for layers; the last label gives L."""
    labels = np.asarray(found.axes[axis]).tolist()
    shift = 1 if axis == "layer" else 0
    last = max(labels, default=0) + shift
    return {label: (label + shift) / last if last else 0.0 for label in labels}


def thin(found: Measurement, *axes: str) -> tuple[Measurement, str]:
    """The measurement with every k-th label of `axes`, so that it fits CELLS; and a note, or nothing."""
    step, longest = 1, max(len(found.axes[axis]) for axis in axes)
    while math.prod(-(-len(v) // step) if a in axes else len(v) for a, v in found.axes.items()) > CELLS:
        step += 1
        if step > longest:
            raise BadInput(
                f"{found.name} has {found.value.size} cells, a chart holds {CELLS}; see its table."
            )
    if step == 1:
        return found, ""
    index = tuple(slice(None, None, step) if axis in axes else slice(None) for axis in found.axes)
    kept = {axis: np.asarray(v)[::step] if axis in axes else v for axis, v in found.axes.items()}
    parts: dict[str, Any] = {p: None if (v := getattr(found, p)) is None else v[index] for p in COLUMNS}
    note = f"one in {step} labels of {' and '.join(axes)} is drawn; the table has all"
    return replace(found, axes=kept, **parts), note


def _plain(cell: float | int | str) -> float | int | str | None:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
