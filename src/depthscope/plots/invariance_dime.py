"""What two disturbed copies of a text share beyond what those of two texts share, by state."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("augmentation_invariance",)
READS = ("dime",)
TITLE = "DiME"


def plot(result: Result) -> Spec:
    """DiME by state, for the views of each text and for shuffled ones."""
    found = present(result, READS)["dime"]
    series = {str(one): found.select(variant=one) for one in found.axes["variant"]}
    return finish(lines(series, "state", "shared"), TITLE, described(series, "state"))
