"""Measurements as plain HTML tables: the numbers behind every chart, and those that have no chart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from depthscope.results.measurement import Measurement

ROWS = 2_000
"""The most rows that one table of a page shows."""

MISSING = "\N{EN DASH}"


@dataclass(frozen=True)
class PageTable:
    """What a template draws: caption, column heads, rows of text; the first `heads` columns are headings."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    heads: int = 1
    note: str = ""

    @cached_property
    def words(self) -> frozenset[int]:
        """Columns of words, counted from 1: those that begin with a letter in more rows than with anything else.

        Every cell of a page asks for it.
        """
        return frozenset(
            k + 1
            for k in range(self.heads, len(self.columns))
            if 2 * sum(row[k][:1].isalpha() for row in self.rows) > len(self.rows)
        )


def number(value: float | None) -> str:
    """Four significant digits; an en dash for a missing number."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def tables_of(measurements: Mapping[str, Measurement]) -> list[PageTable]:
    """The tables of some measurements: scalars together, equal axes side by side, two axes as a grid each."""
    scalars = {name: found for name, found in measurements.items() if not found.axes}
    singles: dict[tuple[object, ...], dict[str, Measurement]] = {}
    tables = [_scalars(scalars)] if scalars else []
    for name, found in measurements.items():
        if len(found.axes) == 1:
            axis, labels = next(iter(found.axes.items()))
            singles.setdefault((axis, *np.asarray(labels).tolist()), {})[name] = found
    tables += [_side_by_side(group) for group in singles.values()]
    for name, found in measurements.items():
        if len(found.axes) == 2:
            tables.append(_grid(name, found))
        elif len(found.axes) > 2:
            tables.append(_long(name, found))
    return tables


def _scalars(found: Mapping[str, Measurement]) -> PageTable:
    rows = tuple(
        (
            name,
            number(m.scalar()),
            _interval(m, ()),
            _count(m, "n", ()),
            _count(m, "n_items", ()),
            m.unit,
            m.note,
        )
        for name, m in found.items()
    )
    return PageTable(
        "Single numbers", ("measurement", "value", "interval", "n", "items", "unit", "note"), rows
    )


def _side_by_side(group: Mapping[str, Measurement]) -> PageTable:
    first = next(iter(group.values()))
    axis, labels = next(iter(first.axes.items()))
    columns = [axis]
    for name, found in group.items():
        columns += [_titled(name, found.unit), "interval"]
    rows: list[tuple[str, ...]] = []
    for i, label in enumerate(np.asarray(labels).tolist()):
        cells = [str(label)]
        for found in group.values():
            cells += [number(float(found.value[i])), _interval(found, (i,))]
        rows.append((*cells, _count(first, "n", (i,)), _count(first, "n_items", (i,))))
    return PageTable(f"By {axis}", (*columns, "n", "items"), tuple(rows[:ROWS]), note=_notes(group.values()))


def _grid(name: str, found: Measurement) -> PageTable:
    (down, labels), (across, heads) = found.axes.items()
    columns = (f"{down} \\ {across}", *(str(h) for h in np.asarray(heads).tolist()))
    rows = tuple(
        (str(label), *(number(float(v)) for v in found.value[i]))
        for i, label in enumerate(np.asarray(labels).tolist()[:ROWS])
    )
    n = _range(found.n)
    caption = f"{_titled(name, found.unit)} by {down} and {across}{f'; n = {n}' if n else ''}"
    return PageTable(caption, columns, rows, note=_notes([found]))


def _long(name: str, found: Measurement) -> PageTable:
    table, axes = found.columns(), list(found.axes)
    names = (*axes, "value", "low", "high", "n", "n_items")
    size = len(table["value"])
    rows = tuple(
        (
            *(str(table[axis][i]) for axis in axes),
            *(number(float(table[part][i])) for part in names[len(axes) :]),
        )
        for i in range(min(size, ROWS))
    )
    cut = f"the first {ROWS:,} of {size:,} rows; `depthscope show` prints all. " if size > ROWS else ""
    return PageTable(_titled(name, found.unit), names, rows, len(axes), cut + _notes([found]))


def _titled(name: str, unit: str) -> str:
    return name if unit == "1" else f"{name} ({unit})"


def _interval(found: Measurement, index: tuple[int, ...]) -> str:
    if found.low is None or found.high is None:
        return MISSING
    return f"{number(float(found.low[index]))} to {number(float(found.high[index]))}"


def _count(found: Measurement, part: str, index: tuple[int, ...]) -> str:
    counts = getattr(found, part)
    return MISSING if counts is None else f"{int(counts[index]):,}"


def _range(counts: np.ndarray | None) -> str:
    if counts is None or counts.size == 0:
        return ""
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _notes(found: Iterable[Measurement]) -> str:
    """Notes and reasons for missing cells, each said once."""
    said: dict[str, None] = {}
    for measurement in found:
        for text in (measurement.note, f"{MISSING} {measurement.missing}" if measurement.missing else ""):
            if text:
                said[text] = None
    return "; ".join(said)
