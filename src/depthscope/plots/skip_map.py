"""Which later layers write something else when a layer is skipped."""

from __future__ import annotations

import numpy as np

from depthscope.plots import Spec, finish, present, rows, thin, with_unit
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("layer_skip",)
READS = ("effect_on_later",)
TITLE = "Effect of skipping a layer on every later layer's write"


def plot(result: Result) -> Spec:
    """A map: skipped layer down, later layer across; cells without a value stay empty."""
    whole = present(result, READS)["effect_on_later"]
    found, note = thin(whole, "layer", "later_layer")
    title = with_unit("effect", found.unit)
    amount = {"field": "value", "type": "quantitative"}
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": title}
    colour = amount | {"scale": _scale(found), "legend": legend}
    down, across = (np.asarray(found.axes[axis]).tolist() for axis in ("layer", "later_layer"))
    encoding = {
        "x": {
            "field": "later_layer",
            "type": "ordinal",
            "title": "later layer",
            "axis": axis,
            "scale": {"domain": across},
        },
        "y": {
            "field": "layer",
            "type": "ordinal",
            "title": "skipped layer",
            "axis": axis,
            "scale": {"domain": down},
        },
        "color": colour,
        "tooltip": [
            {"field": "layer", "type": "ordinal", "title": "skipped layer"},
            {"field": "later_layer", "type": "ordinal", "title": "later layer"},
            amount | {"title": title, "format": ".4~g"},
            {"field": "n", "type": "quantitative", "format": "~d"},
        ],
    }
    values = [row for row in rows(found) if row["value"] is not None]
    layer = {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding}
    return finish([layer], TITLE, _told(whole), note, height=320)


def _scale(found: Measurement) -> Spec:
    """Linear colours near the median and logarithmic beyond, since one layer often towers over the rest."""
    typical = float(np.nanmedian(np.abs(found.value))) if np.isfinite(found.value).any() else 0.0
    return {"scheme": "viridis"} | ({"type": "symlog", "constant": typical} if typical > 0 else {})


def _told(found: Measurement) -> str:
    if not np.isfinite(found.value).any():
        return "Map without any value."
    layer, later = np.unravel_index(np.nanargmax(found.value), found.value.shape)
    layers, laters = found.axes["layer"], found.axes["later_layer"]
    return (
        f"Map of skipped layer by later layer; the largest effect is that of layer {layers[layer]} on layer "
        f"{laters[later]}, {np.nanmax(found.value):.3g}; the median is {np.nanmedian(found.value):.3g}."
    )
