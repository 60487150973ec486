"""Cosines between the vectors of tasks."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_vectors",)
READS = ("cosine",)
TITLE = "How alike the vectors of tasks are"


def plot(result: Result) -> Spec:
    """A map: task down, task across. Tasks without a vector stay empty."""
    return task_map(result, READS[0], Across("option", "the other task", "cosine"), TITLE)
