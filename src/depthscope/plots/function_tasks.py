"""Accuracy without examples of every task, by what is added at the chosen state."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_vectors",)
READS = ("accuracy",)
TITLE = "Tasks done without examples"


def plot(result: Result) -> Spec:
    """A map: task down, what is added across. Tasks that are not solved in context stay empty."""
    return task_map(result, READS[0], Across("variant", "what is added", "share of queries"), TITLE)
