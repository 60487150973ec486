"""What each plan on the middle of the network costs."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, colours, finish, present, rows, tooltip, with_unit, y_axis, y_scale
from depthscope.results.result import Result

SUITS = ("surgery",)
READS = ("loss_increase",)
TITLE = "Loss added by surgery on the middle layers"


def plot(result: Result) -> Spec:
    """Points with intervals by plan, one colour for each number of layers left as they are."""
    found = present(result, READS)["loss_increase"]
    names = [f"{kept} layers kept" for kept in np.asarray(found.axes["kept"]).tolist()]
    table = [
        row | {"series": f"{row['kept']} layers kept"} for row in rows(found) if row["value"] is not None
    ]
    plans = np.asarray(found.axes["variant"]).tolist()
    x = {"field": "variant", "type": "nominal", "title": "what is done", "scale": {"domain": plans}}
    y = y_axis(y_scale(table, "auto"), with_unit("loss increase", found.unit))
    place = {"x": x, "xOffset": {"field": "series", "type": "nominal", "scale": {"domain": names}}}
    colour = colours(names, {"orient": "top", "title": None})
    said = [one for one in tooltip("variant", "loss increase") if one["field"] != "depth"]
    layers: list[Spec] = [
        {
            "data": {"values": table},
            "mark": {"type": "rule"},
            "encoding": place | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        {
            "data": {"values": table},
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": place | {"y": y, "color": colour, "tooltip": said},
        },
    ]
    return finish(layers, TITLE, _told(table))


def _told(table: list[Spec]) -> str:
    said = [f"{row['variant']} with {row['kept']} layers kept {row['value']:+.3g}" for row in table]
    return f"Rise of the loss in nats: {'; '.join(said) or 'no value of 0 plans'}."
