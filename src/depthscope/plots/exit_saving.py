"""What early exits save at which agreement: layers, and operations once the looking is paid for."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, colours, finish, present, rows, shapes, tooltip, y_axis, y_scale
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("early_exit",)
READS = ("net_saving", "agreement")
TITLE = "Operations saved by early exits"
POINT = {"type": "point", "filled": True, "size": 60, "opacity": 1}


def plot(result: Result) -> Spec:
    """Each policy at each target: agreement on fresh documents across, net saving up; below the line they cost."""
    found = present(result, READS)
    net = found.get("net_saving", next(iter(found.values())))
    policies = [str(p) for p in net.axes["policy"]]
    table = _table(net, found.get("agreement"))
    title, legend = "share of operations saved", {"orient": "top", "title": "policy"}
    scale = y_scale([*table, {"value": 0.0}])
    y = y_axis(scale, title) | {"axis": {"format": "%", "tickCount": 6}}
    span = [min([row["agreement"] for row in table], default=0.9) - 0.005, 1.002]
    x = {
        "field": "agreement", "type": "quantitative", "title": "agreement with the full model",
        "scale": {"domain": span, "nice": False}, "axis": {"format": ".0%", "tickCount": 6},
    }  # fmt: skip
    said = [one for one in tooltip("target", title) if one["field"] != "depth"]
    said += [{"field": f, "type": "quantitative", "format": ".3~g"} for f in ("agreement", "every")]
    dots = {
        "x": x,
        "y": y,
        "color": colours(policies, legend),
        "shape": shapes(policies, legend),
        "tooltip": said,
    }
    bars = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colours(policies, legend)}
    layers = [
        {"data": {"values": [{"value": 0.0}]}, "mark": {"type": "rule", "opacity": 0.6}, "encoding": {"y": y}},
        {"data": {"values": table}, "mark": {"type": "rule", "opacity": 0.5}, "encoding": bars},
        {"data": {"values": table}, "mark": POINT, "encoding": dots},
    ]  # fmt: skip
    return finish(
        layers,
        TITLE,
        _told(net),
        "below the line looking costs more than the layers that are left out; who looks less often pays less",
    )


def _table(net: Measurement, agreement: Measurement | None) -> list[Row]:
    """Rows of the net saving with the agreement that was reached."""
    reached = {_place(row): row["value"] for row in rows(agreement)} if agreement is not None else {}
    table = [row | {"series": row["policy"], "agreement": reached.get(_place(row))} for row in rows(net)]
    return [row for row in table if row["value"] is not None and row["agreement"] is not None]


def _place(row: Row) -> tuple[object, ...]:
    return row["policy"], row["every"], row["target"]


def _told(net: Measurement) -> str:
    said: list[str] = []
    for policy in net.axes["policy"]:
        values = net.select(policy=policy).value
        span = (
            f"{np.nanmin(values):.0%} to {np.nanmax(values):.0%}"
            if np.isfinite(values).any()
            else "no value in 0 cells"
        )
        said.append(f"{policy} {span}")
    return f"Net saving over all targets and intervals of looks: {'; '.join(said)}."
