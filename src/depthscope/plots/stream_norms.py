"""How large the stream is at each depth, and how far its largest vector stands out."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("corpus_statistics",)
READS = ("norm_median", "norm_max")
TITLE = "Norm of the stream"
NAMES = {"norm_median": "median", "norm_max": "largest"}


def plot(result: Result) -> Spec:
    """Median and largest norm of a token's vector by state; a gap of orders of magnitude is a sink."""
    series = {NAMES[name]: found for name, found in present(result, READS).items()}
    return finish(lines(series, "state", "norm", "auto"), TITLE, described(series, "state"))
