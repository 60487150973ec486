"""How sure the best state of each task is."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("layer_quality",)
READS = ("best_share",)
TITLE = "How often each state is the best"


def plot(result: Result) -> Spec:
    """Share of draws of items in which a state is the best by the main score, first mode, one line a task."""
    found = present(result, READS)["best_share"]
    mode = str(np.asarray(found.axes["mode"])[0])
    series = {}
    for task in found.axes["task"]:
        cells = found.select(task=task, mode=mode)
        main = np.asarray(cells.axes["score"])[np.isfinite(cells.value).any(axis=1).argmax()]
        series[str(task)] = cells.select(score=main)
    return finish(lines(series, "state", "share of draws"), TITLE, described(series, "state"), f"mode {mode}")
