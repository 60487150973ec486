"""How alike all pairs of states are."""

from __future__ import annotations

import numpy as np

from depthscope.plots import Spec, finish, present, rows, thin
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("layer_similarity", "model_similarity")
READS = ("debiased_cka",)
TITLE = "Debiased CKA of every state with every other"
AXIS = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}


def plot(result: Result) -> Spec:
    """A map of state (down) by other state (across); massive tokens left out where that was measured."""
    whole, mode = _one_mode(present(result, READS)["debiased_cka"])
    found, thinned = thin(whole, "state", "other_state")
    amount = {"field": "value", "type": "quantitative"}
    number = {"type": "quantitative", "format": ".4~g"}
    named = {"state": "state", "other_state": _across(result)}
    tooltip = [
        *({"field": axis, "type": "ordinal", "title": title} for axis, title in named.items()),
        amount | {"title": "debiased CKA", "format": ".4~g"},
        {"field": "low", "title": "interval from", **number},
        {"field": "high", "title": "to", **number},
        {"field": "n", "type": "quantitative", "format": "~d"},
    ]
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "debiased CKA"}
    encoding = {
        "x": _ordinal(found, "other_state", named["other_state"]),
        "y": _ordinal(found, "state", "state"),
        "color": amount | {"scale": {"scheme": "viridis", "domainMax": 1}, "legend": legend},
        "tooltip": tooltip,
    }
    values = [row for row in rows(found) if row["value"] is not None]
    layer = {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding}
    note = f"pooling: {mode}" + (f"; {thinned}" if thinned else "")
    return finish([layer], TITLE, _told(whole), note, height=320)


def _across(result: Result) -> str:
    return "other state" if result.analysis == "layer_similarity" else "state of the other model"


def _one_mode(found: Measurement) -> tuple[Measurement, str]:
    modes = [str(mode) for mode in found.axes["mode"]]
    mode = next((one for one in modes if "no_massive" in one), modes[0])
    return found.select(mode=mode), mode


def _ordinal(found: Measurement, axis: str, title: str) -> Spec:
    labels = np.asarray(found.axes[axis]).tolist()
    return {"field": axis, "type": "ordinal", "title": title, "axis": AXIS, "scale": {"domain": labels}}


def _told(found: Measurement) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of state by state without any value in its {found.value.size} cells."
    state, other = np.unravel_index(np.nanargmin(found.value), found.value.shape)
    return (
        f"Map of state by state; least alike are {found.axes['state'][state]} and {found.axes['other_state'][other]}, "
        f"{np.nanmin(found.value):.3g}; the median is {np.nanmedian(found.value):.3g}."
    )
