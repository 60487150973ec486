"""The one chart of a decision: cost against the change on the worst task, drawn to SVG, so that it needs no script."""

from __future__ import annotations

from typing import Any

from depthscope.charts import COLOURS
from depthscope.report.words import Words
from depthscope.results.decision import Decision, Estimate, Variant

WIDE, NARROW = 760, 330
"""Widths in pixels, for screens and for phones."""


def chart_svg(decision: Decision, words: Words, width: int) -> str:
    """The chart as SVG text with everything escaped; "" where fewer than two versions have cost and change."""
    import vl_convert

    found = chart_spec(decision, words, width)
    return vl_convert.vegalite_to_svg(found) if found is not None else ""


def chart_spec(decision: Decision, words: Words, width: int) -> dict[str, Any] | None:
    """The Vega-Lite specification, or None where fewer than two versions have cost and change."""
    points = [
        point for variant in decision.variants if (point := _point(decision, words, variant)) is not None
    ]
    if len(points) < 2:
        return None
    limit = -100 * min((task.allowed_drop for task in decision.tasks), default=0.0)
    cost = words.t(
        "page", "chart_x_money" if decision.currency else "chart_x_time", currency=decision.currency
    )
    x = {"field": "cost", "type": "quantitative", "title": cost, "scale": {"zero": False, "padding": 24}}
    y = {"field": "change", "type": "quantitative", "title": words.t("page", "chart_y")}
    colour = {"condition": {"test": "datum.pareto", "value": COLOURS[0]}, "value": COLOURS[6]}
    line = {
        "data": {"values": [{"limit": limit}]},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": COLOURS[1]},
        "encoding": {"y": {"field": "limit", "type": "quantitative"}},
    }
    bars = [
        {
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.7},
            "encoding": encoding | {"color": colour},
        }
        for encoding in (
            {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
            {"x": x | {"field": "cost_low"}, "x2": {"field": "cost_high"}, "y": y},
        )
    ]
    dots = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
        "encoding": {"x": x, "y": y, "color": colour},
    }
    middle = (min(p["cost"] for p in points) + max(p["cost"] for p in points)) / 2
    text = {"type": "text", "dy": -8, "color": "currentColor", "limit": width // 3}
    labels = [
        {
            "transform": [{"filter": f"datum.pareto && datum.cost {side} {middle}"}],
            "mark": text | mark,
            "encoding": {"x": x, "y": y, "text": {"field": "label"}},
        }
        for side, mark in (("<=", {"align": "left", "dx": 8}), (">", {"align": "right", "dx": -8}))
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": width - 70, "height": 300, "background": None, "data": {"values": points},
        "layer": [line, *bars, dots, *labels], "config": chart_config(),
    }  # fmt: skip


def _point(decision: Decision, words: Words, variant: Variant) -> dict[str, Any] | None:
    found = variant.on(variant.worst)
    change = (
        Estimate(0.0, 0.0, 0.0) if variant.name == decision.base else found.change if found else Estimate()
    )
    if not (change.bounded and variant.cost.bounded):
        return None
    parts = {"change": change.value, "low": change.low, "high": change.high}
    return {
        **{key: 100 * float(value or 0) for key, value in parts.items()},
        "cost": variant.cost.value, "cost_low": variant.cost.low, "cost_high": variant.cost.high,
        "pareto": variant.pareto, "label": words.short(variant),
    }  # fmt: skip


def chart_config() -> dict[str, Any]:
    """Looks of a chart that stands in a page as SVG: it takes the colour of the text around it."""
    ink = "currentColor"
    font = "system-ui, sans-serif"
    axis = {
        "labelColor": ink, "titleColor": ink, "tickColor": ink, "domainColor": ink, "gridColor": ink,
        "gridOpacity": 0.12,
        "labelFont": font, "titleFont": font, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "titlePadding": 12, "tickCount": 6,
    }  # fmt: skip
    return {"axis": axis, "text": {"font": font, "fontSize": 12}, "view": {"stroke": None}}
