"""Accuracy of every task under its vector, a sum, one rebuilt from its words, and nulls."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_transfer",)
READS = ("accuracy",)
TITLE = "Tasks done by vectors, and by what only says the same words"


def plot(result: Result) -> Spec:
    """A map: task down, what is added across."""
    return task_map(result, READS[0], Across("variant", "what is added", "share of queries"), TITLE)
