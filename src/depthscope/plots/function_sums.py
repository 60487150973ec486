"""Accuracy of tasks that a sum of other tasks' vectors should do."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_transfer",)
READS = ("composition",)
TITLE = "Tasks done by sums of other tasks' vectors"


def plot(result: Result) -> Spec:
    """A map: task down; in context, its own vector, the sum and nothing across."""
    return task_map(result, READS[0], Across("variant", "what is given", "share of queries"), TITLE)
