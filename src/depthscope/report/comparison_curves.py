"""The curves of a comparison: a part of the page for each analysis, few of its curves open and the others folded."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from depthscope.charts import colours, finish, rows, tooltip, with_unit, y_axis, y_scale
from depthscope.report.assets import as_json
from depthscope.report.compare import GRID, Aligned, Comparison
from depthscope.report.sections import Chart
from depthscope.report.tables import PageTable, number

OPEN = 4
"""Curves of an analysis that stand open on the page."""
LABEL = re.compile(r"\[([^=\]]+)=([^\]]*)\]")
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class CurveGroup:
    """The curves of one analysis: `charts` stand open, `more` are folded."""

    name: str
    title: str
    charts: tuple[Chart, ...]
    more: tuple[Chart, ...]


def curve_groups(found: Comparison) -> tuple[CurveGroup, ...]:
    """All curves by analysis, in their order; the first of each measurement stand open, then others if they fit."""
    by: dict[str, list[Aligned]] = {}
    for one in found.aligned.values():
        by.setdefault(one.name.partition("/")[0], []).append(one)
    return tuple(_group(found, analysis, curves) for analysis, curves in by.items())


def _group(found: Comparison, analysis: str, curves: list[Aligned]) -> CurveGroup:
    first = {LABEL.sub("", one.name): k for k, one in reversed(list(enumerate(curves)))}
    order = sorted(range(len(curves)), key=lambda k: (k not in first.values(), k))
    shown = set(order[:OPEN])
    drawn = [_chart(found, one) for one in curves]
    charts = tuple(chart for k, chart in enumerate(drawn) if k in shown)
    more = tuple(chart for k, chart in enumerate(drawn) if k not in shown)
    return CurveGroup(analysis, analysis.replace("_", " "), charts, more)


def named(name: str) -> tuple[str, str]:
    """A curve in words, and its labels: "a/sink_mass[mode=start]" is "sink mass" and "mode: start"."""
    bare = LABEL.sub("", name.partition("/")[2]).replace("_", " ")
    return bare, "; ".join(f"{axis.replace('_', ' ')}: {label}" for axis, label in LABEL.findall(name))


def depth_table(found: Comparison, one: Aligned, step: int = 1) -> PageTable:
    """One measurement at every `step`-th depth of GRID: a column per run, then differences to the first."""
    others = range(1, len(found.runs))
    columns = ["depth", *found.runs, *(f"{found.runs[i]} \N{MINUS SIGN} {found.runs[0]}" for i in others)]
    lines: list[tuple[str, ...]] = []
    for at in range(0, len(GRID), step):
        apart = (_apart(one, i, at) for i in others)
        lines.append((f"{GRID[at]:.0%}", *(number(float(v)) for v in one.value[:, at]), *apart))
    return PageTable(with_unit(one.name, one.unit), tuple(columns), tuple(lines), note=one.interval)


def _apart(one: Aligned, run: int, at: int) -> str:
    low, high = float(one.low[run, at]), float(one.high[run, at])
    bounds = f" ({number(low)} to {number(high)})" if np.isfinite([low, high]).all() else ""
    return f"{number(float(one.difference[run, at]))}{bounds}"


def _chart(found: Comparison, one: Aligned) -> Chart:
    axis = next(iter(one.curves[0].axes))
    table = [
        row | {"series": name} for name, m in zip(found.runs, one.curves, strict=True) for row in rows(m)
    ]
    said, labels = named(one.name)
    title, scale = with_unit(said, one.unit), y_scale(table)
    percent = {"format": ".0%", "grid": False, "values": list(QUARTERS)}
    depth = {"field": "depth", "type": "quantitative", "title": "relative depth", "axis": percent}
    legend = {"orient": "top", "title": None, "labelLimit": 320, "columns": 1}
    shared = {"x": depth, "y": y_axis(scale, title), "color": colours(found.runs, legend)}
    dots = shared | {"tooltip": tooltip(axis, title)}
    layers = [
        {"data": {"values": table}, "mark": {"type": "line", "strokeWidth": 2}, "encoding": shared},
        {"data": {"values": table}, "mark": {"type": "point", "filled": True, "size": 38}, "encoding": dots},
    ]
    told = f"{one.name} by relative depth for {', '.join(found.runs)}."
    spec = finish(layers, said, told)
    del spec["title"]
    return Chart(one.name, said, labels, told, as_json(spec), (depth_table(found, one),))
