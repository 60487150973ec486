"""Layers that early exits leave out, against what a free look at the answer would allow."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, colours, finish, present, rows, tooltip
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("early_exit",)
READS = ("gross_saving", "oracle_gross_saving")
TITLE = "Layers left out by early exits"


def plot(result: Result) -> Spec:
    """Bars by target and policy where every state is looked at; dashed the oracle that stops for good."""
    found = present(result, READS)
    gross = found.get("gross_saving")
    bars = _bars(gross) if gross is not None else []
    policies = [str(p) for p in gross.axes["policy"]] if gross is not None else ["prob"]
    oracle = found.get("oracle_gross_saving")
    x = {"field": "target", "type": "ordinal", "title": "target agreement (%)", "axis": {"labelAngle": 0}}
    y = {
        "field": "value", "type": "quantitative", "title": "share of layers left out", "axis": {"format": "%"},
        "scale": {"domainMin": 0},
    }  # fmt: skip
    place = {"x": x, "xOffset": {"field": "series", "type": "nominal", "scale": {"domain": policies}}}
    said = [one for one in tooltip("target", "layers left out") if one["field"] != "depth"]
    colour = colours(policies, {"orient": "top", "title": "policy"})
    layers = [
        {
            "data": {"values": bars},
            "mark": {"type": "bar"},
            "encoding": place | {"y": y, "color": colour, "tooltip": said},
        },
        {
            "data": {"values": bars},
            "mark": {"type": "rule"},
            "encoding": place | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        *_line(oracle, y),
    ]
    note = "dashed: stopping for good at the first state that keeps the final token, known for free"
    return finish(layers, TITLE, _told(gross, oracle), note if oracle is not None else "")


def _bars(gross: Measurement) -> list[Row]:
    least = int(np.min(gross.axes["every"]))
    table = [row | {"series": row["policy"]} for row in rows(gross) if row["every"] == least]
    return [row for row in table if row["value"] is not None]


def _line(oracle: Measurement | None, y: Spec) -> list[Spec]:
    value = _room(oracle)
    if value is None:
        return []
    mark = {"type": "rule", "strokeDash": [4, 3], "opacity": 0.7, "tooltip": f"known for free: {value:.0%}"}
    return [{"data": {"values": [{"value": value}]}, "mark": mark, "encoding": {"y": y}}]


def _room(oracle: Measurement | None) -> float | None:
    if oracle is None:
        return None
    value = oracle.at(policy="stable", every=int(np.min(oracle.axes["every"])))
    return value if np.isfinite(value) else None


def _told(gross: Measurement | None, oracle: Measurement | None) -> str:
    said: list[str] = []
    if gross is not None:
        for target in gross.axes["target"]:
            values = gross.select(target=target).value
            best = f"{np.nanmax(values):.0%}" if np.isfinite(values).any() else "no value"
            said.append(f"at most {best} at a target of {target} %")
    room = _room(oracle)
    known = "" if room is None else f" Known for free: {room:.0%}."
    return f"Share of layers that policies leave out: {'; '.join(said) or 'none of 0'}.{known}"
