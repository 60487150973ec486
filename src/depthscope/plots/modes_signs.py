"""How surely the entropies of prompts dip between two modes, at every state."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("entropy_modes",)
READS = ("dip_p",)
TITLE = "The dip test of prompt entropies"
NAMES = {"wei": "all tokens", "wei_no_first": "no first", "wei_no_massive": "no massive"}
ALPHA = 0.01


def plot(result: Result) -> Spec:
    """Adjusted p of the dip by state, a line a choice of tokens; below the dashed line one mode is ruled out."""
    found = present(result, READS)["dip_p"]
    plain = found.select(variant=found.axes["variant"][0])
    series = {NAMES.get(str(m), str(m)): plain.select(mode=m) for m in np.asarray(plain.axes["mode"])}
    drawn = [*dashed(ALPHA, "p = 0.01"), *lines(series, "state", "p, adjusted", "log")]
    return finish(
        drawn, TITLE, described(series, "state"), "Holm over the states; two other signs must agree"
    )
