"""What leaving out one layer, or exchanging it with the next one, costs."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("surgery",)
READS = ("single_agreement",)
TITLE = "Predictions that survive surgery on one layer"


def plot(result: Result) -> Spec:
    """Share of positions whose most likely token stays, by layer: left out for good, and exchanged with the next."""
    found = present(result, READS)["single_agreement"]
    series = {"left out": found.select(variant="drop"), "swapped with the next": found.select(variant="swap")}
    return finish(
        lines(series, "layer", "agreement with the intact model"), TITLE, described(series, "layer")
    )
