"""Which layers each criterion would remove first."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, present, rows, thin
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("pruning_criteria",)
READS = ("rank",)
TITLE = "Order in which criteria would remove layers"


def plot(result: Result) -> Spec:
    """A map of criterion by layer, dark is removed first; protected layers are named beside the title."""
    whole = present(result, READS)["rank"]
    found, note = thin(whole, "layer")
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    across, down = (np.asarray(found.axes[name]).tolist() for name in ("layer", "criterion"))
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "rank (1 goes first)"}
    encoding = {
        "x": {
            "field": "layer",
            "type": "ordinal",
            "title": "layer",
            "axis": axis,
            "scale": {"domain": across},
        },
        "y": {
            "field": "criterion",
            "type": "nominal",
            "title": None,
            "axis": axis,
            "scale": {"domain": down},
        },
        "color": {"field": "value", "type": "quantitative", "scale": {"scheme": "viridis"}, "legend": legend},
        "tooltip": [
            {"field": "criterion", "type": "nominal"},
            {"field": "layer", "type": "ordinal"},
            {"field": "value", "type": "quantitative", "title": "rank", "format": "d"},
        ],
    }
    values = [row for row in rows(found) if row["value"] is not None]
    layer = {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding}
    return finish([layer], TITLE, _told(whole), note or _protected(result))


def _protected(result: Result) -> str:
    found = result.findings.measurements.get("protected")
    if found is None:
        return ""
    layers = np.asarray(found.axes["layer"])[found.value > 0].tolist()
    return f"protected whatever their rank: {', '.join(map(str, layers))}"


def _told(found: Measurement) -> str:
    said: list[str] = []
    for name in np.asarray(found.axes["criterion"]).tolist():
        rank = found.select(criterion=name).value
        first = [str(k) for k in np.argsort(rank, kind="stable")[:3] if np.isfinite(rank[k])]
        said.append(f"{name}: {', '.join(first) or 'none of 0'}")
    return f"The three layers that go first by each criterion. {'; '.join(said)}."
