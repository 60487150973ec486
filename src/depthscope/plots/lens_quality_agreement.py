"""How often each lens reads the final prediction in a state."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("lens_quality",)
READS = ("top1_agreement",)
TITLE = "Agreement with the final prediction, by lens"


def plot(result: Result) -> Spec:
    """Share of positions with the final top-1 by state, one line a lens."""
    found = present(result, READS)["top1_agreement"]
    series = split(found, "lens")
    return finish(lines(series, "state", "agreement"), TITLE, described(series, "state"))
