"""Which layers add what other layers add."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, heat_map, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("adaptive_compute",)
READS = ("write_cosine",)
TITLE = "Cosine of what two layers add at one position"


def plot(result: Result) -> Spec:
    """A map: layer down, later layer across; colours part at 0, and reach as far on both sides."""
    found = present(result, READS)["write_cosine"]
    most = float(np.abs(found.value).max(initial=0.0, where=np.isfinite(found.value))) or 1.0
    scale = {"scheme": "blueorange", "domain": [-most, most]}
    layer, note = heat_map(found, {"layer": "layer", "later_layer": "later layer"}, "cosine", scale)
    return finish([layer], TITLE, _told(found), note, height=320)


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
