"""At which state tokens are predicted first and for good, class by class."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, colours, finish, present, rows, shapes, tooltip, x_axis
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("pos_depth",)
READS = ("onset",)
TITLE = "State at which a token is predicted, by class of word"
SHOWN = ("first", "stable")
POINT = {"type": "point", "filled": True, "size": 60, "opacity": 1}


def plot(result: Result) -> Spec:
    """Mean first and stable onset of rank <= the least k with intervals, classes in the order of the first onset."""
    whole = present(result, READS)["onset"]
    k = int(np.min(whole.axes["k"]))
    series = {name: whole.select(definition=name, k=k) for name in SHOWN}
    order = _order(series["first"])
    table = [row | {"state": row["value"]} for name, one in series.items() for row in rows(one, series=name)]
    known = [row for row in table if row["value"] is not None and row["word_class"] in order]
    y = {
        "field": "word_class", "type": "nominal", "title": None, "sort": order, "scale": {"domain": order},
        "axis": {"ticks": False, "domain": False, "grid": True},
    }  # fmt: skip
    legend = {"orient": "top", "title": f"rank <= {k}"}
    ends = [{"state": row[e]} for row in known for e in ("low", "value", "high") if row[e] is not None]
    x = x_axis("state", ends or [{"state": 0}])
    base = {"y": y, "yOffset": {"field": "series", "type": "nominal"}, "color": colours(SHOWN, legend)}
    title = "mean state"
    dots = base | {"x": x, "shape": shapes(SHOWN, legend), "tooltip": _said(title)}
    bars = base | {"x": x | {"field": "low"}, "x2": {"field": "high"}}
    layers = [
        {"data": {"values": known}, "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5}, "encoding": bars},
        {"data": {"values": known}, "mark": POINT, "encoding": dots},
    ]  # fmt: skip
    return finish(layers, TITLE, _told(series, order), height=max(120, 26 * len(order)))


def _said(title: str) -> list[Spec]:
    return [one for one in tooltip("word_class", title) if one["field"] != "depth"]


def _order(first: Measurement) -> list[str]:
    """Classes that have a value, earliest first; CONTENT of the word list is the group of content itself."""
    names = np.asarray(first.axes["word_class"])
    there = np.flatnonzero(np.isfinite(first.value) & (names != "CONTENT"))
    return [str(names[k]) for k in there[np.argsort(first.value[there], kind="stable")]]


def _told(series: dict[str, Measurement], order: list[str]) -> str:
    if not order:
        return "No class of words has a value: 0 positions were kept."
    said = [
        f"{name} {', '.join(f'{one.at(word_class=c):.1f}' for one in series.values())}"
        for c in order
        for name in [c]
    ]
    return f"Mean state of the first and the stable onset by class of word: {'; '.join(said)}."
