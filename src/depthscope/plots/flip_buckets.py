"""How often early guesses of each frequency class are overturned."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, colours, finish, present, rows, tooltip
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("decision_flips",)
READS = ("flip_rate", "chance_flip_rate")
TITLE = "Early guesses that are overturned, by their frequency class"
SHOWN = 8
"""States that are drawn at most; the table has all."""


def plot(result: Result) -> Spec:
    """Bars side by side for some states, with intervals; a tick marks what chance gives."""
    found = present(result, READS)
    first = next(iter(found.values()))
    kept = _kept(np.asarray(first.axes["state"]))
    names = [str(name) for name in first.axes["bucket"]]
    table = {name: _rows(one, kept) for name, one in found.items()}
    x = {
        "field": "state",
        "type": "ordinal",
        "title": "state",
        "axis": {"labelAngle": 0},
        "scale": {"domain": kept},
    }
    beside = {"field": "series", "type": "nominal", "scale": {"domain": names}}
    height = {
        "field": "value", "type": "quantitative", "title": "share overturned",
        "scale": {"domain": [0, 1]}, "axis": {"format": "%", "tickCount": 5},
    }  # fmt: skip
    place = {"x": x, "xOffset": beside, "tooltip": tooltip("state", "share overturned")}
    legend = {"orient": "top", "title": "rank of the early guess"}
    flips = table.get("flip_rate", [])
    layers = [
        _layer(flips, {"type": "bar"}, place | {"y": height, "color": colours(names, legend)}),
        _layer(flips, {"type": "rule"}, place | {"y": height | {"field": "low"}, "y2": {"field": "high"}}),
        _layer(
            table.get("chance_flip_rate", []),
            {"type": "tick", "thickness": 2, "color": "currentColor", "opacity": 0.7},
            place | {"y": height},
        ),
    ]
    note = "lines across: what the final token of another position would give"
    note += (
        f"; {len(kept)} of {len(first.axes['state'])} states" if len(kept) < len(first.axes["state"]) else ""
    )
    return finish(layers, TITLE, _told(first, kept), note)


def _kept(states: np.ndarray) -> list[int]:
    """At most SHOWN states, evenly over depth, the last one left out: it overturns nothing."""
    early = states[:-1] if len(states) > 1 else states
    places = np.unique(np.linspace(0, len(early) - 1, min(SHOWN, len(early))).round().astype(int))
    return early[places].tolist()


def _rows(found: Measurement, kept: list[int]) -> list[Row]:
    table = rows(found)
    return [r | {"series": str(r["bucket"])} for r in table if r["state"] in kept and r["value"] is not None]


def _layer(values: list[Row], mark: Spec, encoding: Spec) -> Spec:
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def _told(found: Measurement, kept: list[int]) -> str:
    states, said = np.asarray(found.axes["state"]), list[str]()
    at = [int(np.flatnonzero(states == state)[0]) for state in (kept[0], kept[-1])]
    for k, name in enumerate(found.axes["bucket"]):
        values = [found.value[i, k] for i in at]
        words = ["none" if np.isnan(v) else f"{v:.0%}" for v in values]
        said.append(f"{name}: {words[0]} at state {kept[0]}, {words[1]} at state {kept[-1]}")
    return f"Share of early guesses that are overturned. {'; '.join(said)}."
