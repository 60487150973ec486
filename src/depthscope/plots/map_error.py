"""How well each state of one model is predicted linearly from each state of another."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, heat_map, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("linear_maps",)
READS = ("relative_error",)
TITLE = "Error of predicting each target from each source"


def plot(result: Result) -> Spec:
    """A map: source down, target across, the relative error on held-out documents as colour."""
    found = present(result, READS)["relative_error"]
    target = "layer" if "layer" in found.axes else "state"
    named = {"source": f"source {target}", target: f"target {target}"}
    layer, note = heat_map(found, named, "relative error", {"scheme": "viridis", "reverse": True})
    return finish([layer], TITLE, _told(found, target), note, height=320)


def _told(found: Measurement, target: str) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of source by target {target} without any value in its {found.value.size} cells."
    low, high = np.nanmin(found.value), np.nanmax(found.value)
    return (
        f"Map of source by target {target}; the relative error is between {low:.3g} and {high:.3g}, the median "
        f"{np.nanmedian(found.value):.3g}."
    )
