"""Where the final token stands in each state's ranking of the vocabulary."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("logit_lens",)
READS = ("median_rank",)
TITLE = "Median rank of the final token"


def plot(result: Result) -> Spec:
    """Median rank of the model's final top-1 token by state; 1 is the best rank."""
    series = {"median rank": present(result, READS)["median_rank"]}
    return finish(lines(series, "state", "median rank", "log"), TITLE, described(series, "state"))
