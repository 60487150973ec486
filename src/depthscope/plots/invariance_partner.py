"""How often a disturbed text's nearest neighbour is its other copy, by state."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("augmentation_invariance",)
READS = ("partner_top1",)
TITLE = "How often the nearest view is the partner"


def plot(result: Result) -> Spec:
    """Share of views whose nearest view is their partner by state, for true and for shuffled groups."""
    found = present(result, READS)["partner_top1"]
    series = {str(one): found.select(variant=one) for one in found.axes["variant"]}
    return finish(lines(series, "state", "probability"), TITLE, described(series, "state"))
