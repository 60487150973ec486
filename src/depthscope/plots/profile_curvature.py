"""How sharply the path from token to token turns."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("representation_profile",)
READS = ("curvature",)
TITLE = "Curvature of the path through tokens"


def plot(result: Result) -> Spec:
    """Curvature of the path through tokens by state, one line per mode."""
    found = present(result, READS)["curvature"]
    series = {str(mode): found.select(mode=mode) for mode in found.axes["mode"]}
    return finish(lines(series, "state", "curvature"), TITLE, described(series, "state"))
