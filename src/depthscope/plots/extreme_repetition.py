"""Entropy when one token takes each position with probability p."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, spread_out
from depthscope.results.result import Result

SUITS = ("extreme_inputs",)
READS = ("repetition_entropy",)
TITLE = "Prompt entropy as one token is repeated"


def plot(result: Result) -> Spec:
    """Normalised entropy by state, a line a level, every position counted; at most five levels, the table has all."""
    found = present(result, READS)["repetition_entropy"].select(mode="exact")
    series, note = spread_out(found, "level", "p = {:.2g}")
    return finish(lines(series, "state", "prompt entropy"), TITLE, described(series, "state"), note)
