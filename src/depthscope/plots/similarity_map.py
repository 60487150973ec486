"""How alike all pairs of states are."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, heat_map, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("layer_similarity", "model_similarity")
READS = ("debiased_cka",)
TITLE = "Debiased CKA of every state with every other"


def plot(result: Result) -> Spec:
    """A map of state (down) by other state (across); massive tokens left out where that was measured."""
    found, mode = _one_mode(present(result, READS)["debiased_cka"])
    own = result.analysis == "layer_similarity"
    named = {"state": "state", "other_state": "other state" if own else "state of the other model"}
    layer, thinned = heat_map(found, named, "debiased CKA", {"scheme": "viridis", "domainMax": 1})
    note = f"pooling: {mode}" + (f"; {thinned}" if thinned else "")
    return finish([layer], TITLE, _told(found), note, height=320)


def _one_mode(found: Measurement) -> tuple[Measurement, str]:
    modes = [str(mode) for mode in found.axes["mode"]]
    mode = next((one for one in modes if "no_massive" in one), modes[0])
    return found.select(mode=mode), mode


def _told(found: Measurement) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of state by state without any value in its {found.value.size} cells."
    state, other = np.unravel_index(np.nanargmin(found.value), found.value.shape)
    return (
        f"Map of state by state; least alike are {found.axes['state'][state]} and {found.axes['other_state'][other]}, "
        f"{np.nanmin(found.value):.3g}; the median is {np.nanmedian(found.value):.3g}."
    )
