"""A comparison as one HTML page and as tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depthscope.charts import colours, finish, rows, tooltip, with_unit, y_axis, y_scale
from depthscope.report.assets import as_json
from depthscope.report.compare import GRID, Aligned, Comparison
from depthscope.report.head_comparison_page import heads_parts
from depthscope.report.page import render
from depthscope.report.sections import Chart
from depthscope.report.summaries import summary_table
from depthscope.report.tables import PageTable, number
from depthscope.store.atomic import write_text


def write_comparison(found: Comparison, path: Path) -> Path:
    """Write the comparison as one self-contained HTML file and return where it is.

    Raises:
        StoreError: the file cannot be written.
    """
    charts = [_chart(found, one) for one in found.aligned.values()]
    context = {
        "title": " and ".join(found.runs),
        "pairing": found.pairing,
        "charts": charts,
        "scalars": scalar_table(found),
        "summaries": summary_table(found.runs, found.summaries),
        "heads": heads_parts(found.heads, found.course),
    }
    write_text(path, render("compare.html.j2", context))
    return path


def scalar_table(found: Comparison) -> PageTable:
    """The single numbers of all runs, one row each."""
    table = tuple((name, *map(number, values)) for name, values in found.scalars.items())
    return PageTable("Single numbers", ("measurement", *found.runs), table)


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
    title, scale = with_unit(one.name.partition("/")[2], one.unit), y_scale(table)
    percent = {"format": ".0%", "grid": False}
    depth = {"field": "depth", "type": "quantitative", "title": "relative depth", "axis": percent}
    legend = {"orient": "top", "title": None, "labelLimit": 320, "columns": 1}
    shared = {"x": depth, "y": y_axis(scale, title), "color": colours(found.runs, legend)}
    dots = shared | {"tooltip": tooltip(axis, title)}
    layers = [
        {"data": {"values": table}, "mark": {"type": "line", "strokeWidth": 2}, "encoding": shared},
        {"data": {"values": table}, "mark": {"type": "point", "filled": True, "size": 38}, "encoding": dots},
    ]
    said = f"{one.name} by relative depth for {', '.join(found.runs)}."
    spec = finish(layers, one.name, said)
    del spec["title"]
    return Chart(one.name, one.name, "", said, as_json(spec), (depth_table(found, one),))
