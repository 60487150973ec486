"""Share of continued sentences that hold the answer, by task and by what is added."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_texts",)
READS = ("hit",)
TITLE = "Tasks done in ordinary sentences"


def plot(result: Result) -> Spec:
    """A map: task down, what is added across. Tasks without a vector stay empty."""
    return task_map(result, READS[0], Across("variant", "what is added", "share of texts"), TITLE)
