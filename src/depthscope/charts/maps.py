"""Maps: one label down, one across, the value as colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from depthscope.charts.axes import with_unit
from depthscope.charts.specification import Row, Spec
from depthscope.charts.table import rows, thin
from depthscope.results.measurement import Measurement

WIDE = 26
"""Letters that labels side by side may have together on a narrow page."""
NUMBER: Spec = {"type": "quantitative", "format": ".4~g"}


def heat_map(
    found: Measurement, named: Mapping[str, str], title: str, scale: Spec | None = None
) -> tuple[Spec, str]:
    """One layer of rectangles, and a note if labels were left out so that it fits; cells without a value stay empty.

    Args:
        named: the axis that goes down and the one that goes across, each with its title.
        title: what the colour means, with its unit.
        scale: of the colour; None is viridis.
    """
    down, across = named
    drawn, note = thin(found, down, across)
    values = [row for row in rows(drawn) if row["value"] is not None]
    amount = {"field": "value", "type": "quantitative"}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": title}
    encoding = {
        "x": _labels_of(drawn, across, named[across]) | _turned(drawn.axes[across]),
        "y": _labels_of(drawn, down, named[down]),
        "color": amount | {"scale": scale or {"scheme": "viridis"}, "legend": legend},
        "tooltip": [
            *({"field": axis, "type": "ordinal", "title": words} for axis, words in named.items()),
            amount | {"title": title, "format": ".4~g"},
            *_interval(values),
            {"field": "n", "type": "quantitative", "format": "~d"},
        ],
    }
    return {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding}, note


def pair_map(found: Measurement) -> tuple[Spec, str, str]:
    """A map of skipped layer (down) by later layer (across): its layer, what it shows in words, and a note if thinned.

    Colours are linear near the median and logarithmic beyond, since one layer often towers over the rest.
    """
    typical = float(np.nanmedian(np.abs(found.value))) if np.isfinite(found.value).any() else 0.0
    scale = {"scheme": "viridis"} | ({"type": "symlog", "constant": typical} if typical > 0 else {})
    named = {"layer": "skipped layer", "later_layer": "later layer"}
    layer, note = heat_map(found, named, with_unit("effect", found.unit), scale)
    return layer, _largest_pair(found), note


def _interval(values: list[Row]) -> list[Spec]:
    if all(row.get("low") is None for row in values):
        return []
    return [{"field": "low", "title": "interval from", **NUMBER}, {"field": "high", "title": "to", **NUMBER}]


def _labels_of(found: Measurement, axis: str, title: str) -> Spec:
    shown = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    labels = np.asarray(found.axes[axis]).tolist()
    return {"field": axis, "type": "ordinal", "title": title, "axis": shown, "scale": {"domain": labels}}


def _turned(labels: Sequence[object] | np.ndarray) -> Spec:
    """How the labels of what goes across stand: names that would not fit side by side are turned and all shown."""
    names = [label for label in np.asarray(labels).tolist() if isinstance(label, str)]
    shown = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    if len(names) > 3 and sum(map(len, names)) > WIDE:
        shown |= {"labelOverlap": False, "labelAngle": -40, "labelLimit": 130}
    return {"axis": shown}


def _largest_pair(found: Measurement) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of {len(found.axes['layer'])} layers without any value."
    layer, later = np.unravel_index(np.nanargmax(found.value), found.value.shape)
    layers, laters = found.axes["layer"], found.axes["later_layer"]
    return (
        f"Map of skipped layer by later layer; the largest effect is that of layer {layers[layer]} on layer "
        f"{laters[later]}, {np.nanmax(found.value):.3g}; the median is {np.nanmedian(found.value):.3g}."
    )
