"""Share of frequent, rare and invented words whose whole answer a function vector gives."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.charts.tasks import Across, task_map
from depthscope.results.result import Result

SUITS = ("function_reach",)
READS = ("accuracy",)
TITLE = "Function vectors on frequent, rare and invented words"


def plot(result: Result) -> Spec:
    """A map: task down, kinds of words across. Tasks without a vector, and kinds without words, stay empty."""
    return task_map(result, READS[0], Across("bucket", "words", "share of words"), TITLE, variant="vector")
