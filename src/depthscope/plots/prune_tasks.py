"""What a shortened model loses on each task, against the margin."""

from __future__ import annotations

from typing import Any

from depthscope.charts import Spec, finish, present, rows, y_axis, y_scale
from depthscope.results.result import Result

SUITS = ("prune",)
READS = ("difference",)
TITLE = "Change on each task, shortened against intact"
POINTS = 100


def plot(result: Result) -> Spec:
    """Points of 100 with their paired intervals by task; a tick marks what may be lost."""
    found = present(result, READS)["difference"]
    table = [_in_points(row) for row in rows(found)]
    there = result.findings.measurements
    margins = rows(there["margin"]) if "margin" in there else []
    limits = [
        {"task": row["task"], "value": -POINTS * row["value"], "low": None, "high": None}
        for row in margins
        if row["value"] is not None
    ]
    table = [row for row in table if row["value"] is not None]
    x = {"field": "task", "type": "nominal", "title": "task", "sort": None}
    y = y_axis(y_scale([*table, *limits, {"value": 0.0}]), "change (points of 100)")
    number: Spec = {"type": "quantitative", "format": ".3~g"}
    said: list[Spec] = [
        {"field": "task", "type": "nominal"},
        {"field": "value", "title": "change", **number},
        {"field": "low", "title": "interval from", **number},
        {"field": "high", "title": "to", **number},
        {"field": "n_items", "title": "items", "type": "quantitative", "format": "~d"},
    ]
    ends = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}
    margin = {"type": "tick", "thickness": 2, "width": 44, "color": "#D55E00", "tooltip": "what may be lost"}
    dot = {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": "#0072B2"}
    layers: list[Spec] = [
        {"data": {"values": limits}, "mark": margin, "encoding": {"x": x, "y": y}},
        {"data": {"values": table}, "mark": {"type": "rule", "strokeWidth": 2}, "encoding": ends},
        {"data": {"values": table}, "mark": dot, "encoding": {"x": x, "y": y, "tooltip": said}},
    ]
    told = "; ".join(f"{row['task']} {row['value']:+.1f}" for row in table)
    return finish(
        layers, TITLE, f"Change in points of 100 by task: {told or 'no value of 0 tasks was measured'}."
    )


def _in_points(row: dict[str, Any]) -> dict[str, Any]:
    scaled = {part: None if row[part] is None else POINTS * row[part] for part in ("value", "low", "high")}
    return row | scaled
