"""Where early guesses of each frequency class end."""

from __future__ import annotations

import json

import numpy as np

from depthscope.charts import Row, Spec, finish, present, rows
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("decision_flips",)
READS = ("bucket_transition",)
TITLE = "From the early to the final frequency class"
SHOWN = 4
"""States that are drawn at most; the table has all."""


def plot(result: Result) -> Spec:
    """One matrix a state: class of the early guess down, class of the final prediction across; rows sum to 1."""
    found = present(result, READS)["bucket_transition"]
    kept = _kept(np.asarray(found.axes["state"]))
    names = [str(name) for name in found.axes["bucket"]]
    ends = [str(name) for name in found.axes["transition"]]
    values = _cells(found, kept, ends)
    wide = len(ends) + 1
    middles = {wide * k + len(ends) / 2: f"state {state}" for k, state in enumerate(kept)}
    words = json.dumps({f"{at:g}": name for at, name in middles.items()})
    axis = {
        "values": list(middles), "orient": "top", "grid": False, "ticks": False, "domain": False,
        "labelExpr": f"{words}[datum.value]",
    }  # fmt: skip
    scale = {"domain": [0, wide * len(kept) - 1], "nice": False}
    x = {"field": "from", "type": "quantitative", "title": None, "scale": scale, "axis": axis}
    y = {
        "field": "bucket",
        "type": "ordinal",
        "title": "early guess",
        "sort": names,
        "scale": {"domain": names},
    }
    share = {"field": "value", "type": "quantitative"}
    legend = {"orient": "top", "title": "share", "gradientLength": 120, "gradientThickness": 10}
    said = [{"field": f, "type": "nominal"} for f in ("state", "bucket", "transition")]
    said += [
        share | {"format": ".3~g", "title": "share"},
        {"field": "n_items", "type": "quantitative", "title": "items"},
    ]
    colour = share | {"scale": {"scheme": "viridis", "domain": [0, 1]}, "legend": legend}
    encoding = {"x": x, "x2": {"field": "to"}, "y": y, "color": colour, "tooltip": said}
    layers = [
        {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding},
        {
            "data": {"values": values},
            "mark": {"type": "text", "fontSize": {"expr": "containerSize()[0] < 500 ? 7 : 10"}},
            "encoding": {
                "x": x | {"field": "middle"},
                "y": y,
                "text": {"field": "percent", "type": "quantitative", "format": ".0f"},
                "color": {"condition": {"test": "datum.value > 0.6", "value": "black"}, "value": "white"},
            },
        },
    ]
    note = f"in percent of a row; columns: {', '.join(ends)}"
    return finish(layers, TITLE, _told(found, kept, names), note, height=40 * len(names) + 20)


def _kept(states: np.ndarray) -> list[int]:
    """At most SHOWN states, evenly from state 1 to the one before the last."""
    inner = states[1:-1] if len(states) > 2 else states
    places = np.unique(np.linspace(0, len(inner) - 1, min(SHOWN, len(inner))).round().astype(int))
    return inner[places].tolist()


def _cells(found: Measurement, kept: list[int], ends: list[str]) -> list[Row]:
    wide = len(ends) + 1
    table: list[Row] = []
    for row in rows(found):
        if row["state"] in kept and row["value"] is not None:
            left = wide * kept.index(row["state"]) + ends.index(str(row["transition"]))
            table.append(
                row | {"from": left, "to": left + 1, "middle": left + 0.5, "percent": 100 * row["value"]}
            )
    return table


def _told(found: Measurement, kept: list[int], names: list[str]) -> str:
    states = np.asarray(found.axes["state"])
    said: list[str] = []
    for state in kept:
        stay = np.diagonal(found.value[int(np.flatnonzero(states == state)[0])])
        words = ["none" if np.isnan(v) else f"{v:.0%}" for v in stay]
        said.append(f"state {state}: {', '.join(f'{n} {w}' for n, w in zip(names, words, strict=True))}")
    return f"Share of early guesses that stay in their frequency class. {'; '.join(said)}."
