"""How steeply the entropy of each state answers to repetition and to random tokens."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("extreme_inputs",)
READS = ("slope",)
TITLE = "Change of prompt entropy with repetition and randomness"
DRAWN = ("repetition", "randomness")
NAMES = {"exact": "", "first_kept": ", first kept"}


def plot(result: Result) -> Spec:
    """Mean slope over p by state, with and without position 0; below the line the edit compresses."""
    found = present(result, READS)["slope"]
    kinds = [str(kind) for kind in np.asarray(found.axes["variant"]) if kind in DRAWN]
    series = {
        f"{kind}{words}": found.select(variant=kind, mode=mode)
        for kind in kinds or [str(found.axes["variant"][0])]
        for mode, words in NAMES.items()
    }
    drawn = [*dashed(0.0, "no change"), *lines(series, "state", "slope of the entropy over p")]
    return finish(drawn, TITLE, described(series, "state"), "state 0 holds only the tokens themselves")
