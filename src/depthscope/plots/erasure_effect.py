"""Until which depth the answer needs the question: the mean effect of erasing, by part of the prompt."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("residual_erasure",)
READS = ("effect",)
TITLE = "Effect of erasing one position's state"
PARTS = ("question", "last", "answer")


def plot(result: Result) -> Spec:
    """One line for question tokens, the question's last position, and answer tokens; sinks are left to the table."""
    parts = split(present(result, READS)["effect"], "bucket")
    series = {name: parts[name] for name in PARTS}
    return finish(lines(series, "state", "distance of outputs"), TITLE, described(series, "state"))
