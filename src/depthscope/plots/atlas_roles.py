"""Where in depth each role of heads lies."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, finish, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("head_atlas",)
READS = ("role",)
TITLE = "Heads of each role by layer"


def plot(result: Result) -> Spec:
    """A map: role down, layer across, how many heads of the layer have the label; open labels count as without."""
    found = present(result, READS)["role"]
    table = _counted(found)
    roles = [str(r) for r in found.axes["role"]]
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "heads"}
    labels = np.asarray(found.axes["layer"]).tolist()
    encoding: Spec = {
        "x": {"field": "layer", "type": "ordinal", "axis": axis, "scale": {"domain": labels}},
        "y": {"field": "role", "type": "nominal", "sort": roles, "axis": axis, "title": None},
        "color": {"field": "heads", "type": "quantitative", "scale": {"scheme": "viridis"}, "legend": legend},
        "tooltip": [
            {"field": "role", "type": "nominal"},
            {"field": "layer", "type": "ordinal"},
            {"field": "heads", "type": "quantitative"},
        ],
    }
    drawn = {"data": {"values": table}, "mark": {"type": "rect"}, "encoding": encoding}
    return finish([drawn], TITLE, _told(found), height=max(160, 20 * len(roles)))


def _counted(found: Measurement) -> list[Row]:
    """Roles that are decided for some head of the layer, with their count."""
    rows: list[Row] = []
    for role, by_layer in zip(found.axes["role"], found.value, strict=True):
        for layer, heads in zip(found.axes["layer"], by_layer, strict=True):
            if np.isfinite(heads).any():
                rows.append({"role": str(role), "layer": int(layer), "heads": int(np.nansum(heads))})
    return rows


def _told(found: Measurement) -> str:
    counts = {str(r): int(np.nansum(v)) for r, v in zip(found.axes["role"], found.value, strict=True)}
    said = ", ".join(f"{role} {count}" for role, count in counts.items() if count)
    size = found.value.shape[1] * found.value.shape[2]
    return f"Heads with each label, of {size}: {said or 'no label at all'}; empty where scores are missing."
