"""How the entropies of prompts are spread at every state."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, present, rows, thin
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("entropy_modes",)
READS = ("histogram",)
TITLE = "Prompt entropies by state"


def plot(result: Result) -> Spec:
    """A map of state across and entropy up, darker where fewer prompts are; two stripes are two modes."""
    whole = present(result, READS)["histogram"]
    found, note = thin(whole.select(mode=whole.axes["mode"][0]), "state")
    states = np.asarray(found.axes["state"]).tolist()
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "share of prompts"}
    amount = {"field": "value", "type": "quantitative"}
    values = [row for row in rows(found) if row["value"]]
    seen = [row["bucket"] for row in values]
    every = np.asarray(found.axes["bucket"]).tolist()
    edges = [e for e in reversed(every) if min(seen, default=0.0) <= e <= max(seen, default=1.0)]
    encoding = {
        "x": {
            "field": "state",
            "type": "ordinal",
            "title": "state",
            "axis": axis,
            "scale": {"domain": states},
        },
        "y": {
            "field": "bucket",
            "type": "ordinal",
            "title": "prompt entropy",
            "scale": {"domain": edges},
            "axis": axis | {"format": ".2f"},
        },
        "color": amount | {"scale": {"scheme": "viridis"}, "legend": legend},
        "tooltip": [
            {"field": "state", "type": "ordinal"},
            {"field": "bucket", "type": "ordinal", "title": "entropy from"},
            amount | {"title": "share of prompts", "format": ".1%"},
            {"field": "n_items", "title": "prompts", "type": "quantitative", "format": "~d"},
        ],
    }
    layer = {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding}
    return finish([layer], TITLE, _told(found), note or _bimodal(result))


def _bimodal(result: Result) -> str:
    """The states that are called bimodal, where the result says so."""
    judged = result.findings.measurements.get("bimodal")
    if judged is None:
        return ""
    cells = judged.select(mode=judged.axes["mode"][0], variant=judged.axes["variant"][0])
    states = np.asarray(cells.axes["state"])[cells.value == 1].tolist()
    return f"two modes at state {', '.join(map(str, states))}" if states else "no state is called bimodal"


def _told(found: Measurement) -> str:
    edges, said = np.asarray(found.axes["bucket"], np.float64), list[str]()
    for place in (0, len(found.axes["state"]) // 2, len(found.axes["state"]) - 1):
        share = np.nan_to_num(found.value[place])
        most = edges[share.argmax()] if share.any() else 0.0
        said.append(f"at state {found.axes['state'][place]} most often from {most:.3g} on")
    return f"Shares of prompts by entropy: {'; '.join(said)}."
