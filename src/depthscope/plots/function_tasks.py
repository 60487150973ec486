"""Accuracy without examples of every task, by what is added at the chosen state."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, heat_map, present
from depthscope.results.result import Result

SUITS = ("function_vectors",)
READS = ("accuracy",)
TITLE = "Tasks done without examples"


def plot(result: Result) -> Spec:
    """A map: task down, what is added across. Tasks that are not solved in context stay empty."""
    found = present(result, READS)["accuracy"]
    layer, note = heat_map(found, {"task": "task", "variant": "what is added"}, "share of queries")
    height = max(160, 26 * len(found.axes["task"]))
    return finish([layer], TITLE, _told(found.value, np.asarray(found.axes["task"])), note, height=height)


def _told(value: np.ndarray, tasks: np.ndarray) -> str:
    solved = int(np.isfinite(value).any(1).sum())
    best = f"; the highest share is {np.nanmax(value):.3g}" if solved else ""
    return f"Map of {len(tasks)} tasks, {solved} of them solved in context, by what is added{best}."
