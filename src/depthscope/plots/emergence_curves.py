"""Grammar over a training: heads that follow it, and pairs that are told apart."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, colours, finish, present, rows, shapes
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("grammar_emergence",)
READS = ("uas", "subject_accuracy", "pair_accuracy", "attractor_accuracy")
TITLE = "Grammar over the steps of a training"
NAMES = {
    "uas": "all relations, by the best heads",
    "subject_accuracy": "subjects, by the best head",
    "pair_accuracy": "pairs told apart",
    "attractor_accuracy": "pairs with an attractor told apart",
}


def plot(result: Result) -> Spec:
    """Lines over ln(1 + step) with their intervals."""
    found = present(result, READS)
    table = [
        row | {"place": float(np.log1p(row["step"]))}
        for name, one in found.items()
        for row in rows(one, series=NAMES[name])
        if row["value"] is not None
    ]
    series = [NAMES[name] for name in found]
    ends = np.log1p([0, 1, 10, 100, 1000, 10_000, 100_000]).tolist()
    label = "round(exp(datum.value) - 1)"
    axis = {"values": ends, "labelExpr": label, "grid": False}
    x = {"field": "place", "type": "quantitative", "title": "step (axis ln(1 + step))", "axis": axis}
    y = {"field": "value", "type": "quantitative", "title": "share right", "scale": {"domain": [0, 1]}}
    legend = {"orient": "top", "title": None, "columns": 2}
    colour = colours(series, legend)
    shown = ("series", "step", "value", "low", "high", "n")
    tooltip = [{"field": name, "type": "nominal" if name == "series" else "quantitative"} for name in shown]
    data = {"values": table}
    band = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour}
    dots = {"x": x, "y": y, "color": colour, "shape": shapes(series, legend), "tooltip": tooltip}
    layers: list[Spec] = [
        {"data": data, "mark": {"type": "area", "opacity": 0.15}, "encoding": band},
        {"data": data, "mark": {"type": "line"}, "encoding": {"x": x, "y": y, "color": colour}},
        {"data": data, "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1}, "encoding": dots},
    ]
    return finish(layers, TITLE, _told(found))


def _told(found: dict[str, Measurement]) -> str:
    said = [
        f"{NAMES[name]} from {one.value[0]:.3f} to {one.value[-1]:.3f}"
        for name, one in found.items()
        if np.isfinite(one.value[[0, -1]]).all()
    ]
    steps = max(len(one.value) for one in found.values())
    return f"Curves over {steps} checkpoints: {'; '.join(said) or 'no value at the first and last one'}."
