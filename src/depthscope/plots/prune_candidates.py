"""What removing each proposed set of layers costs on text."""

from __future__ import annotations

from depthscope.charts import Spec, colours, finish, present, rows, tooltip, with_unit, y_axis, y_scale
from depthscope.results.result import Result

SUITS = ("prune",)
READS = ("loss_increase",)
TITLE = "Loss added by removing each proposed set of layers"


def plot(result: Result) -> Spec:
    """Points with intervals by candidate, on documents that were not chosen by; the exported one has its own colour."""
    found = present(result, READS)["loss_increase"]
    there = result.findings.measurements
    chosen = (
        {row["variant"] for row in rows(there["chosen"]) if row["value"] == 1} if "chosen" in there else set()
    )
    names = ("removed", "not removed")
    table = [
        row | {"series": names[0] if row["variant"] in chosen else names[1]}
        for row in rows(found)
        if row["value"] is not None
    ]
    x = {
        "field": "variant",
        "type": "nominal",
        "title": "layers and the criteria that propose them",
        "sort": None,
    }
    y = y_axis(y_scale(table, "auto"), with_unit("loss increase", found.unit))
    said = [one for one in tooltip("variant", "loss increase") if one["field"] != "depth"]
    colour = colours(names, {"orient": "top", "title": None})
    layers: list[Spec] = [
        {
            "data": {"values": table},
            "mark": {"type": "rule"},
            "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        {
            "data": {"values": table},
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": said},
        },
    ]
    told = "; ".join(f"{row['variant']} {row['value']:+.3g}" for row in table)
    return finish(
        layers, TITLE, f"Rise of the loss in nats by candidate: {told or 'no value of 0 candidates'}."
    )
