"""At which state predictions settle."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, colours, finish, present, rows, shapes, tooltip, x_axis
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("settle_depth",)
READS = ("stable_histogram", "first_histogram", "persistent_histogram")
TITLE = "Where predictions settle"


def plot(result: Result) -> Spec:
    """Share of positions that settle at each state: bars for the stable onset, marks for the others."""
    series = {name.removesuffix("_histogram"): found for name, found in present(result, READS).items()}
    table = [row for name, found in series.items() for row in rows(found, series=name)]
    known = [_bar(row) for row in table if row["value"] is not None]
    names, legend = list(series), {"orient": "top", "title": "onset"}
    shared = {
        "y": {"field": "value", "type": "quantitative", "title": "share of positions"},
        "color": colours(names, legend),
        "tooltip": tooltip("state", "share"),
    }
    bar = {"x": x_axis("state", table, "from"), "x2": {"field": "to"}, "y2": {"datum": 0}}
    dot = {"x": x_axis("state", table), "shape": shapes(names, legend)}
    dots = {"type": "point", "filled": True, "size": 48, "opacity": 1}
    first = names[0]
    layers = [
        _layer(
            [row for row in known if row["series"] == first], {"type": "bar", "opacity": 0.55}, shared | bar
        ),
        _layer([row for row in known if row["series"] != first], dots, shared | dot),
    ]
    return finish(layers, TITLE, " ".join(_told(name, found) for name, found in series.items()))


def _bar(row: Row) -> Row:
    return row | {"from": row["state"] - 0.36, "to": row["state"] + 0.36}


def _layer(values: list[Row], mark: Spec, encoding: Spec) -> Spec:
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def _told(name: str, found: Measurement) -> str:
    share, states = np.nan_to_num(found.value), np.asarray(found.axes["state"])
    half = share[states < states.max() / 2].sum()
    return f"{name} onset: most often at state {states[share.argmax()]}; {half:.0%} before half depth."
