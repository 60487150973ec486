"""How often each lens reads a token of the chosen set as the likeliest one."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("lens_validation",)
READS = ("set_share",)
TITLE = "Top-1 in the set F, by lens"


def plot(result: Result) -> Spec:
    """Share of positions whose top-1 is in F by state, one line a lens."""
    found = present(result, READS)["set_share"]
    series = split(found, "lens")
    drawn = lines(series, "state", "share of positions")
    return finish(drawn, TITLE, described(series, "state"), found.note.partition("; ")[0])
