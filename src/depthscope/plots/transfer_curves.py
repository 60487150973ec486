"""How fast a task of steps is learnt after another one, and from random weights."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("iteration_transfer",)
READS = ("right",)
TITLE = "A task learnt after another one"


def plot(result: Result) -> Spec:
    """Share of whole sequences by step, of half as many and of the most inputs."""
    found = present(result, READS)["right"]
    levels = np.asarray(found.axes["level"])
    series = {
        f"{variant}, {level} inputs": found.select(variant=variant, level=level)
        for variant in np.asarray(found.axes["variant"])
        for level in sorted({int(levels[(len(levels) - 1) // 2]), int(levels[-1])})
    }
    return finish(lines(series, "step", "sequences right"), TITLE, described(series, "step"))
