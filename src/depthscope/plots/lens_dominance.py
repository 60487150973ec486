"""How often each lens reads one of the most frequent tokens as the likeliest one."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("lens_validation",)
READS = ("top1_share",)
TITLE = "Top-1 among the most frequent tokens, by lens"


def plot(result: Result) -> Spec:
    """Share of positions whose top-1 is in the most frequent bucket by state, one line a lens."""
    found = present(result, READS)["top1_share"]
    bucket = found.axes["bucket"][0]
    series = split(found.select(bucket=bucket), "lens")
    note = f"tokens of frequency rank {bucket}"
    return finish(lines(series, "state", "share of positions"), TITLE, described(series, "state"), note)
