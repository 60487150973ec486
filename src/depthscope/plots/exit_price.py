"""What exits cost in self-written text: damage against the share of operations that is saved."""

from __future__ import annotations

from depthscope.charts import Row, Spec, finish, present, rows
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("exit_price",)
READS = ("net_saving", "damage")
TITLE = "Early exits in text that the model writes"
POINT = {"type": "point", "filled": True, "size": 70, "opacity": 1}


def plot(result: Result) -> Spec:
    """One dot a confidence: operations saved across, damage to the text up; exits pay to the right and low."""
    found = present(result, READS)
    net, damage = (found.get(name) for name in READS)
    table = _joined(net, damage) if net is not None and damage is not None else []
    x = {
        "field": "saved",
        "type": "quantitative",
        "title": "share of operations saved",
        "axis": {"format": "%"},
    }
    y = {"field": "value", "type": "quantitative", "title": "damage, nats a token"}
    number = {"type": "quantitative", "format": ".3~g"}
    said = [{"field": f, **number} for f in ("confidence", "saved", "value", "low", "high")]
    bars = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}
    across = {"x": x | {"field": "saved_low"}, "x2": {"field": "saved_high"}, "y": y}
    name = {"x": x, "y": y, "text": {"field": "confidence", "type": "quantitative", "format": ".3~g"}}
    values = {"values": table}
    layers = [
        {"data": {"values": [{"saved": 0.0}]}, "mark": {"type": "rule", "opacity": 0.6}, "encoding": {"x": x}},
        {"data": values, "mark": {"type": "rule", "opacity": 0.5}, "encoding": bars},
        {"data": values, "mark": {"type": "rule", "opacity": 0.5}, "encoding": across},
        {"data": values, "mark": POINT, "encoding": {"x": x, "y": y, "tooltip": said}},
        {"data": values, "mark": {"type": "text", "dx": 8, "dy": -8, "align": "left"}, "encoding": name},
    ]  # fmt: skip
    return finish(layers, TITLE, _told(table), "numbers beside the dots are confidences")


def _joined(net: Measurement, damage: Measurement) -> list[Row]:
    saved = {row["confidence"]: row for row in rows(net)}
    table = [
        row
        | {
            "saved": saved[row["confidence"]]["value"],
            "saved_low": saved[row["confidence"]]["low"],
            "saved_high": saved[row["confidence"]]["high"],
        }
        for row in rows(damage)
    ]
    return [row for row in table if row["value"] is not None and row["saved"] is not None]


def _told(table: list[Row]) -> str:
    if not table:
        return "Exits in self-written text without any value in their 0 cells."
    said = [f"confidence {r['confidence']:g}: {r['saved']:+.1%} saved, {r['value']:+.2f} nats" for r in table]
    return f"Operations saved and damage by confidence. {'; '.join(said)}."
