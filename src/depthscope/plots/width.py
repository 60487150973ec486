"""How much of the width each state fills, and how much of it the loss needs."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("residual_width",)
READS = ("width_share",)
TITLE = "Width in use, by state"
DRAWN = ("causal_width", "k90", "participation_ratio", "intrinsic_dimension")
NAMES = {
    "causal_width": "needed by the loss", "k90": "90 % of variance", "participation_ratio": "participation ratio",
    "intrinsic_dimension": "TwoNN",
}  # fmt: skip


def plot(result: Result) -> Spec:
    """Causal width, k90, participation ratio and intrinsic dimension over the width, by state."""
    found = present(result, READS)["width_share"]
    there = [str(mode) for mode in np.asarray(found.axes["mode"])]
    series = {NAMES[mode]: found.select(mode=mode) for mode in DRAWN if mode in there}
    note = "sinks left out; what the loss needs is measured on a grid"
    return finish(lines(series, "state", "share of the width"), TITLE, described(series, "state"), note)
