"""Accuracy without examples of every task under every task's vector."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_transfer",)
READS = ("transfer",)
TITLE = "What the vector of one task does in others"


def plot(result: Result) -> Spec:
    """A map: the task that is asked down, the task whose vector is added across."""
    return task_map(result, READS[0], Across("option", "whose vector", "share of queries"), TITLE)
