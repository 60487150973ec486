"""How early a token comes within the k best, by the kind of word it starts."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, colours, finish, present, rows, shapes, tooltip, x_axis
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("pos_depth",)
READS = ("onset",)
TITLE = "State at which a token is among the k best, by kind of word"
SHOWN = ("function", "content", "DET", "ADP", "VERB", "NOUN", "ADJ")


def plot(result: Result) -> Spec:
    """Mean first onset across, the rank k up on a logarithmic scale, a line a kind of word; as in arXiv 2510.18871."""
    whole = present(result, READS)["onset"].select(definition="first")
    there = [name for name in SHOWN if name in np.asarray(whole.axes["word_class"])]
    series = {name: whole.select(word_class=name) for name in there}
    known = [name for name in there if np.isfinite(series[name].value).any()] or there
    table: list[Row] = [
        row | {"state": row["value"]}
        for name in known
        for row in rows(series[name], series=name)
        if row["value"] is not None
    ]
    legend = {"orient": "top", "title": "before"}
    y = {
        "field": "k", "type": "quantitative", "title": "rank k", "scale": {"type": "log", "reverse": True},
        "axis": {"values": np.asarray(whole.axes["k"]).tolist(), "format": "d"},
    }  # fmt: skip
    x = x_axis("state", table or [{"state": 0}]) | {"title": "mean first state with rank <= k"}
    line = {"x": x, "y": y, "color": colours(known, legend), "order": {"field": "k", "type": "quantitative"}}
    said = [one for one in tooltip("k", "mean state") if one["field"] != "depth"]
    dots = {"x": x, "y": y, "color": colours(known, legend), "shape": shapes(known, legend), "tooltip": said}
    layers = [
        {"data": {"values": table}, "mark": {"type": "line", "strokeWidth": 2}, "encoding": line},
        {
            "data": {"values": table},
            "mark": {"type": "point", "filled": True, "size": 48, "opacity": 1},
            "encoding": dots,
        },
    ]
    return finish(layers, TITLE, _told({name: series[name] for name in known}))


def _told(series: dict[str, Measurement]) -> str:
    said: list[str] = []
    for name, one in series.items():
        ks, values = np.asarray(one.axes["k"]), one.value
        ends = [f"{values[at]:.1f} at k = {ks[at]}" for at in (0, -1) if np.isfinite(values[at])]
        said.append(f"{name}: {', '.join(ends) or 'no value at any of 0 positions'}")
    return f"Mean first state with rank <= k. {'; '.join(said)}."
