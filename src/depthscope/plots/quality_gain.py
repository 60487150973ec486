"""What the best earlier state gains over the last one."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, colours, finish, present, rows, tooltip, y_axis, y_scale
from depthscope.results.result import Result

SUITS = ("layer_quality",)
READS = ("gain",)
TITLE = "Best earlier state minus the last state"


def plot(result: Result) -> Spec:
    """Points with intervals by task and score, one colour a mode; above 0 an earlier state wins."""
    found = present(result, READS)["gain"]
    names = [str(mode) for mode in np.asarray(found.axes["mode"]).tolist()]
    table = [
        row | {"series": str(row["mode"]), "asked": f"{row['task']}, {row['score']}"}
        for row in rows(found)
        if row["value"] is not None
    ]
    asked = list(dict.fromkeys(row["asked"] for row in table))
    x = {"field": "asked", "type": "nominal", "title": None, "scale": {"domain": asked}}
    y = y_axis(y_scale(table, "auto"), "gain in score")
    place = {"x": x, "xOffset": {"field": "series", "type": "nominal", "scale": {"domain": names}}}
    said = [one for one in tooltip("asked", "gain") if one["field"] != "depth"]
    layers: list[Spec] = [
        {
            "data": {"values": table},
            "mark": {"type": "rule"},
            "encoding": place | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        {
            "data": {"values": table},
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": place
            | {"y": y, "color": colours(names, {"orient": "top", "title": None}), "tooltip": said},
        },
    ]
    return finish(layers, TITLE, _told(table), "chosen on one half of the items, judged on the other")


def _told(table: list[Spec]) -> str:
    told = [f"{row['asked']} in {row['mode']} {row['value']:+.3g}" for row in table]
    return f"Gain of the best earlier state over the last: {'; '.join(told) or 'no value of 0 tasks'}."
