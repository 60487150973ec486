"""How many directions the token vectors of a prompt use."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("representation_profile",)
READS = ("effective_rank",)
TITLE = "Effective rank"


def plot(result: Result) -> Spec:
    """Effective rank by state, one line per mode."""
    found = present(result, READS)["effective_rank"]
    series = {str(mode): found.select(mode=mode) for mode in found.axes["mode"]}
    return finish(lines(series, "state", "effective rank"), TITLE, described(series, "state"))
