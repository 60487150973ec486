"""The best head of each relation against the best fixed offset."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, colours, finish, present, rows, shapes
from depthscope.results.result import Result

SUITS = ("grammar_heads",)
READS = ("relation_accuracy", "relation_offset_accuracy")
TITLE = "Best head and best offset of each relation"
NAMES = {"relation_accuracy": "best head, held out", "relation_offset_accuracy": "best fixed offset"}
MODES = {"to_head": "to its head", "to_dependent": "to a dependent", "from_head": "by its head"}


def plot(result: Result) -> Spec:
    """One line a relation and way to ask: a point with its interval for the head, one for the offset."""
    found = present(result, READS)
    table = [
        row | {"asked": f"{row['relation']} {MODES.get(str(row['mode']), row['mode'])}"}
        for name, one in found.items()
        for row in rows(one, series=NAMES[name])
        if row["value"] is not None
    ]
    order = _ordered(table)
    series = [NAMES[name] for name in found]
    legend = {"orient": "top", "title": None}
    x = {
        "field": "value",
        "type": "quantitative",
        "title": "share of right picks",
        "scale": {"domain": [0, 1]},
    }
    y = {"field": "asked", "type": "nominal", "sort": order, "title": None}
    shown = ("asked", "series", "value", "low", "high", "n", "n_items")
    tooltip = [{"field": name, "type": "nominal" if name in shown[:2] else "quantitative"} for name in shown]
    data = {"values": table}
    span = {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y, "color": colours(series, legend)}
    dots = {
        "x": x,
        "y": y,
        "color": colours(series, legend),
        "shape": shapes(series, legend),
        "tooltip": tooltip,
    }
    layers: list[Spec] = [
        {"data": data, "mark": {"type": "rule", "opacity": 0.5}, "encoding": span},
        {"data": data, "mark": {"type": "point", "filled": True, "size": 46, "opacity": 1}, "encoding": dots},
    ]
    return finish(layers, TITLE, _told(table, len(order)), height=max(160, 20 * len(order)))


def _ordered(table: list[Row]) -> list[str]:
    """Ways to ask, the most accurate head first."""
    by_head = {row["asked"]: row["value"] for row in table if row["series"] == NAMES["relation_accuracy"]}
    return sorted(by_head, key=lambda asked: -by_head[asked])


def _told(table: list[Row], count: int) -> str:
    of = {
        name: np.array([row["value"] for row in table if row["series"] == shown])
        for name, shown in NAMES.items()
    }
    head, offset = of["relation_accuracy"], of["relation_offset_accuracy"]
    if not len(head):
        return "0 relations have enough questions to choose a head and to judge it, so nothing is drawn."
    better = int((head[: len(offset)] > offset[: len(head)]).sum())
    return (
        f"Points for {count} relations and ways to ask. The best head is right more often than the best offset in "
        f"{better}; the means are {head.mean():.3f} and {offset.mean():.3f}."
    )
