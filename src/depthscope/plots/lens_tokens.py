"""The most frequent tokens one by one: what an early state gives them, against what the model gives in the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from depthscope.charts import Spec, colours, finish, present, shapes
from depthscope.results.result import Result

SUITS = ("lens_validation",)
READS = ("token_mass_gap",)
TITLE = "Probability of the most frequent tokens, early against final"
LEAST = 1e-6
"""Smaller probabilities are drawn here."""


def plot(result: Result) -> Spec:
    """Mean probability of each token at a quarter of the depth against the final one, one colour a lens."""
    gap = present(result, READS)["token_mass_gap"]
    states = np.asarray(gap.axes["state"])
    early, called = (
        int(states[np.abs(states - states.max() / 4).argmin()]),
        [str(n) for n in gap.axes["lens"]],
    )
    table = _points(result, early)
    scale = {"type": "log", "domain": [LEAST, 1], "nice": False}
    axis = {"format": "~g", "values": [10.0**k for k in range(-6, 1)]}
    place = {"type": "quantitative", "scale": scale, "axis": axis}
    x = place | {"field": "final_mass", "title": "mean probability under the final state"}
    y = place | {"field": "mass", "title": f"at state {early}"}
    told = [{"field": f, "type": "nominal"} for f in ("series", "token")]
    told += [{"field": f, "type": "quantitative", "format": ".3~g"} for f in ("mass", "final_mass")]
    legend = {"title": None, "orient": "top"}
    encoding = {
        "x": x,
        "y": y,
        "color": colours(called, legend),
        "shape": shapes(called, legend),
        "tooltip": told,
    }
    corners = {"values": [{"final_mass": end, "mass": end} for end in (LEAST, 1.0)]}
    mark = {"type": "line", "strokeDash": [3, 3], "opacity": 0.5, "color": "currentColor"}
    drawn: list[Spec] = [
        {"data": corners, "mark": mark, "encoding": {"x": x, "y": y}},
        {
            "data": {"values": table},
            "mark": {"type": "point", "filled": True, "size": 38},
            "encoding": encoding,
        },
    ]
    rows = {name: gap.select(lens=name).value[list(states).index(early)] for name in called}
    said = " ".join(f"{name}: mean |ln ratio| {size:.3g} at state {early}." for name, size in rows.items())
    return finish(drawn, TITLE, f"A point a token; on the dashed line both are equal. {said}", "log scales")


def _points(result: Result, state: int) -> list[dict[str, Any]]:
    tokens = result.findings.examples.get("tokens")
    if tokens is None:
        return []
    c = {name: np.asarray(values) for name, values in tokens.columns.items()}
    return [
        {
            "series": str(c["lens"][i]), "token": str(c["token"][i]),
            "mass": max(float(c["mass"][i]), LEAST), "final_mass": max(float(c["final_mass"][i]), LEAST),
        }
        for i in np.flatnonzero(c["state"] == state)
    ]  # fmt: skip
