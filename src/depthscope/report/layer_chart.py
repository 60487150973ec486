"""The one chart of a choice of layer: score by state with intervals, drawn to SVG, so that it needs no script."""

from __future__ import annotations

from typing import Any

import numpy as np

from depthscope.charts import COLOURS
from depthscope.report.decision_chart import chart_config
from depthscope.results.measurement import Measurement


def chart_svg(
    score: Measurement, survived: Measurement, chosen: int, titles: tuple[str, str], width: int
) -> str:
    """The chart as SVG text; "" where fewer than two states have a score.

    Args:
        survived: 1 where a state was scored on all items. titles: of both axes.
    """
    import vl_convert

    rows = _rows(score, survived)
    if len(rows) < 2:
        return ""
    return vl_convert.vegalite_to_svg(_spec(rows, chosen, titles, width))


def _rows(score: Measurement, survived: Measurement) -> list[dict[str, Any]]:
    nothing = np.full(score.value.shape, np.nan)
    low, high = (nothing if part is None else part for part in (score.low, score.high))
    states = np.asarray(score.axes["state"])
    return [
        {"state": int(s), "score": float(v), "low": float(a), "high": float(b), "kept": bool(kept)}
        for s, v, a, b, kept in zip(states, score.value, low, high, survived.value, strict=True)
        if np.isfinite([v, a, b]).all()
    ]


def _spec(rows: list[dict[str, Any]], chosen: int, titles: tuple[str, str], width: int) -> dict[str, Any]:
    ends = [min(row["state"] for row in rows) - 0.5, max(row["state"] for row in rows) + 0.5]
    scale = {"domain": ends, "nice": False, "zero": False}
    x = {"field": "state", "type": "quantitative", "title": titles[0], "scale": scale}
    y = {
        "field": "score",
        "type": "quantitative",
        "title": titles[1],
        "scale": {"zero": False, "padding": 12},
    }
    colour = {"condition": {"test": f"datum.state == {chosen}", "value": COLOURS[1]}, "value": COLOURS[0]}
    fill = {"condition": {"test": "datum.kept", "value": 1}, "value": 0}
    line = {
        "data": {"values": [{"state": chosen}]},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": COLOURS[1]},
        "encoding": {"x": {"field": "state", "type": "quantitative"}},
    }
    bars = {
        "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.7},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour},
    }
    dots = {
        "mark": {"type": "point", "size": 60, "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y, "stroke": colour, "fill": colour, "fillOpacity": fill},
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json", "width": width - 70, "height": 280,
        "background": None, "data": {"values": rows}, "layer": [line, bars, dots], "config": chart_config(),
    }  # fmt: skip
