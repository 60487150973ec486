"""Where the effects of skipping lie, for problems of each level."""

from __future__ import annotations

import numpy as np

from depthscope.charts import COLOURS, Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("depth_by_difficulty",)
READS = ("effect_share",)
TITLE = "Share of a layer in the effect on the answer, by level of difficulty"


def plot(result: Result) -> Spec:
    """One curve a level over layers, of the main score; curves that lie on each other use the same depth."""
    found = present(result, READS)["effect_share"]
    score = np.asarray(found.axes["score"]).tolist()[0]
    levels = np.asarray(found.axes["level"]).tolist()
    step = -(-len(levels) // len(COLOURS))
    series = {f"level {level}": found.select(score=score, level=level) for level in levels[::step]}
    drawn = lines(series, "layer", "share of the effect")
    return finish(drawn, TITLE, described(series, "layer"), f"score: {score}")
