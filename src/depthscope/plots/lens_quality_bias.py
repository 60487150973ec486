"""How far each lens is from the final prediction on average over positions."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("lens_quality",)
READS = ("marginal_bias",)
TITLE = "Bias of the average prediction, by lens"


def plot(result: Result) -> Spec:
    """KL between the mean final and the mean read distribution by state, one line a lens."""
    found = present(result, READS)["marginal_bias"]
    series = split(found, "lens")
    return finish(lines(series, "state", "marginal bias", "auto"), TITLE, described(series, "state"))
