"""The finished Vega-Lite specification: what every chart has in common."""

from __future__ import annotations

from typing import Any

from depthscope.errors import BadInput

Spec = dict[str, Any]

Row = dict[str, Any]

HEIGHT = 260
"""Height of a chart's inner area in pixels."""

CELLS = 2_000
"""The most rows a chart may hold; maps are thinned to it, with a note."""

CONFIG: Spec = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "tickColor": "currentColor",
        "domainColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.13,
        "domainOpacity": 0.35,
        "tickOpacity": 0.35,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {"labelColor": "currentColor", "titleColor": "currentColor", "titleFontWeight": "normal"},
    "title": {"color": "currentColor", "subtitleColor": "currentColor", "anchor": "start", "fontSize": 13},
    "text": {"color": "currentColor"},
    "rule": {"color": "currentColor"},
}


def finish(layers: list[Spec], title: str, description: str, note: str = "", **more: Any) -> Spec:
    """The whole specification: container width, transparent, neutral text, and a text alternative.

    Args:
        layers: what is drawn, first below.
        title: heading.
        note: second line of the heading.
        description: what the chart shows, for readers who do not see it.
        more: further top-level properties, such as `height` or `params`.

    Raises:
        BadInput: when one layer holds more than CELLS rows.
    """
    layers, datasets = _named(layers)
    cells = max(map(len, datasets.values()))
    if cells > CELLS:
        raise BadInput(
            f"the chart {title!r} would hold {cells} cells, at most {CELLS} are drawn; see its table."
        )
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {"text": title, "subtitle": note} if note else {"text": title},
        "description": description,
        "width": "container",
        "height": HEIGHT,
        "background": "transparent",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG,
        "datasets": datasets,
        "layer": layers,
        **more,
    }


def _named(layers: list[Spec]) -> tuple[list[Spec], dict[str, list[Row]]]:
    """Layers that name their rows, and the rows by name, so that layers with equal rows share them."""
    kept: list[list[Row]] = []
    named: list[Spec] = []
    for layer in layers:
        values = layer["data"]["values"]
        if values not in kept:
            kept.append(values)
        named.append(layer | {"data": {"name": f"rows_{kept.index(values)}"}})
    return named, {f"rows_{i}": values for i, values in enumerate(kept)}
