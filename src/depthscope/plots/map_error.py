"""How well each state of one model is predicted linearly from each state of another."""

from __future__ import annotations

import numpy as np

from depthscope.plots import Spec, finish, present, rows, thin
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("linear_maps",)
READS = ("relative_error",)
TITLE = "Error of predicting each target from each source"
AXIS = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}


def plot(result: Result) -> Spec:
    """A map: source down, target across, the relative error on held-out documents as colour."""
    whole = present(result, READS)["relative_error"]
    target = _target(whole)
    found, note = thin(whole, "source", target)
    amount = {"field": "value", "type": "quantitative"}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "relative error"}
    named = {"source": f"source {target}", target: f"target {target}"}
    across, down = (
        {
            "field": axis,
            "type": "ordinal",
            "title": title,
            "axis": AXIS,
            "scale": {"domain": _labels(found, axis)},
        }
        for axis, title in reversed(named.items())
    )
    number = {"type": "quantitative", "format": ".4~g"}
    tooltip = [
        *({"field": axis, "type": "ordinal", "title": title} for axis, title in named.items()),
        amount | {"title": "relative error", "format": ".4~g"},
        {"field": "low", "title": "interval from", **number},
        {"field": "high", "title": "to", **number},
        {"field": "n", "type": "quantitative", "format": "~d"},
    ]
    colour = amount | {"scale": {"scheme": "viridis", "reverse": True}, "legend": legend}
    values = [row for row in rows(found) if row["value"] is not None]
    encoding = {"x": across, "y": down, "color": colour, "tooltip": tooltip}
    layer = {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding}
    return finish([layer], TITLE, _told(whole, target), note, height=320)


def _target(found: Measurement) -> str:
    return "layer" if "layer" in found.axes else "state"


def _labels(found: Measurement, axis: str) -> list[int]:
    return np.asarray(found.axes[axis]).tolist()


def _told(found: Measurement, target: str) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of source by target {target} without any value in its {found.value.size} cells."
    low, high = np.nanmin(found.value), np.nanmax(found.value)
    return (
        f"Map of source by target {target}; the relative error is between {low:.3g} and {high:.3g}, the median "
        f"{np.nanmedian(found.value):.3g}."
    )
