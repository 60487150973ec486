"""How far the mixture of full and streaming heads was from the intact model while its gates were trained."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("duo_gates",)
READS = ("difference",)
TITLE = "What closing gates costs, step by step"


def plot(result: Result) -> Spec:
    """Mean squared difference of last states at the words that are asked for, each step on a text of its own."""
    series = {"difference": present(result, READS)["difference"]}
    return finish(lines(series, "step", "squared difference", "auto"), TITLE, described(series, "step"))
