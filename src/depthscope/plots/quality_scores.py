"""What each state is worth in each task."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("layer_quality",)
READS = ("main_score",)
TITLE = "Score of each state in tasks"


def plot(result: Result) -> Spec:
    """Main score by state in the first mode, one line a task."""
    found = present(result, READS)["main_score"]
    mode = str(np.asarray(found.axes["mode"])[0])
    series = {str(task): found.select(task=task, mode=mode) for task in found.axes["task"]}
    note = f"mode {mode}; {found.note.partition(';')[0]}"
    return finish(lines(series, "state", "score"), TITLE, described(series, "state"), note)
