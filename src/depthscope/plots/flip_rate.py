"""How many early predictions are overturned later."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("settle_depth",)
READS = ("flip_rate",)
TITLE = "Early predictions that are overturned"


def plot(result: Result) -> Spec:
    """Share of positions whose top-1 at a state differs from the final top-1."""
    series = {"overturned": present(result, READS)["flip_rate"]}
    return finish(lines(series, "state", "share overturned"), TITLE, described(series, "state"))
