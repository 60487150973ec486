"""How much all vectors point the same way."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("representation_profile",)
READS = ("anisotropy",)
TITLE = "Anisotropy"


def plot(result: Result) -> Spec:
    """Anisotropy by state, one line per mode."""
    found = present(result, READS)["anisotropy"]
    series = {str(mode): found.select(mode=mode) for mode in found.axes["mode"]}
    return finish(lines(series, "state", "anisotropy"), TITLE, described(series, "state"))
