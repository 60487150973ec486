"""Entropy of random texts of several lengths."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, spread_out
from depthscope.results.result import Result

SUITS = ("extreme_inputs",)
READS = ("length_entropy",)
TITLE = "Prompt entropy of random texts by length"


def plot(result: Result) -> Spec:
    """Normalised entropy by state, a line a level, every position counted; at most five levels, the table has all."""
    found = present(result, READS)["length_entropy"].select(mode="exact")
    series, note = spread_out(found, "level", "{:g} tokens")
    return finish(lines(series, "state", "prompt entropy"), TITLE, described(series, "state"), note)
