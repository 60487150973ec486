"""Which layers add what other layers add."""

from __future__ import annotations

import numpy as np

from depthscope.plots import Spec, finish, present, rows, thin
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("adaptive_compute",)
READS = ("write_cosine",)
TITLE = "Cosine of what two layers add at one position"
AXIS = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
NUMBER = {"type": "quantitative", "format": ".4~g"}


def plot(result: Result) -> Spec:
    """A map: layer down, later layer across; colours part at 0, and reach as far on both sides."""
    whole = present(result, READS)["write_cosine"]
    found, note = thin(whole, "layer", "later_layer")
    values = [row for row in rows(found) if row["value"] is not None]
    most = max((abs(row["value"]) for row in values), default=1.0) or 1.0
    amount = {"field": "value", "type": "quantitative"}
    scale = {"scheme": "blueorange", "domain": [-most, most]}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "cosine"}
    encoding = {
        "x": _axis(found, "later_layer", "later layer"),
        "y": _axis(found, "layer", "layer"),
        "color": amount | {"scale": scale, "legend": legend},
        "tooltip": [
            {"field": "layer", "type": "ordinal"},
            {"field": "later_layer", "type": "ordinal", "title": "later layer"},
            amount | {"title": "cosine", "format": ".4~g"},
            {"field": "low", "title": "interval from", **NUMBER},
            {"field": "high", "title": "to", **NUMBER},
        ],
    }
    layer = {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding}
    return finish([layer], TITLE, _told(whole), note, height=320)


def _axis(found: Measurement, axis: str, title: str) -> Spec:
    labels = np.asarray(found.axes[axis]).tolist()
    return {"field": axis, "type": "ordinal", "title": title, "axis": AXIS, "scale": {"domain": labels}}


def _told(found: Measurement) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of {len(found.axes['layer'])} layers by later layers without any value."
    place = np.unravel_index(np.nanargmax(np.abs(found.value)), found.value.shape)
    first, second = (
        np.asarray(found.axes[axis])[k] for axis, k in zip(("layer", "later_layer"), place, strict=True)
    )
    return (
        f"Map of layer by later layer; layers {first} and {second} are most alike or opposed, with a mean cosine of "
        f"{found.value[place]:.3g}; the median over pairs is {np.nanmedian(found.value):.3g}."
    )
