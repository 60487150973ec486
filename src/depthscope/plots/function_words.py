"""Share of pairs of words that an offset or the vector gets right."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_offsets",)
READS = ("accuracy",)
TITLE = "Tasks done by offsets between words, and by vectors"


def plot(result: Result) -> Spec:
    """A map: task down; offsets among embeddings, unembedding rows and states, the vector and nothing across."""
    return task_map(result, READS[0], Across("variant", "what is used", "share of pairs"), TITLE)
