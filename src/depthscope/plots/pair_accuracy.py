"""How often the grammatical sentence is the more probable one, by paradigm."""

from __future__ import annotations

from depthscope.charts import Row, Spec, finish, present, rows
from depthscope.results.result import Result

SUITS = ("minimal_pairs",)
READS = ("paradigm_accuracy",)
TITLE = "Right sentences that are the more probable"


def plot(result: Result) -> Spec:
    """A point with its interval for each paradigm, the best first; half is chance."""
    table = [row for row in rows(present(result, READS)["paradigm_accuracy"]) if row["value"] is not None]
    order = [str(row["task"]) for row in sorted(table, key=_accuracy, reverse=True)]
    x = {"field": "value", "type": "quantitative", "title": "share of pairs", "scale": {"domain": [0, 1]}}
    limit = {"expr": "containerSize()[0] < 500 ? 150 : 300"}  # names of paradigms differ at their ends
    y = {"field": "task", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": limit}}
    shown = ("task", "value", "low", "high", "n")
    tooltip = [{"field": name, "type": "nominal" if name == "task" else "quantitative"} for name in shown]
    data = {"values": table}
    chance = {
        "data": {"values": [{"value": 0.5}]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.5},
    }
    layers: list[Spec] = [
        chance | {"encoding": {"x": {"field": "value", "type": "quantitative"}}},
        {
            "data": data,
            "mark": {"type": "rule", "opacity": 0.5},
            "encoding": {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y},
        },
        {
            "data": data,
            "mark": {"type": "point", "filled": True, "size": 46, "opacity": 1},
            "encoding": {"x": x, "y": y, "tooltip": tooltip},
        },
    ]
    return finish(layers, TITLE, _told(table), height=max(120, 18 * len(order)))


def _accuracy(row: Row) -> float:
    return float(row["value"])


def _told(table: list[Row]) -> str:
    if not table:
        return "0 paradigms have a pair, so there is nothing to draw."
    best, worst = max(table, key=_accuracy), min(table, key=_accuracy)
    below = sum(_accuracy(row) < 0.5 for row in table)
    return (
        f"Points for {len(table)} paradigms: from {worst['task']} ({worst['value']:.3f}) to {best['task']} "
        f"({best['value']:.3f}); {below} lie below chance, 0.5."
    )
