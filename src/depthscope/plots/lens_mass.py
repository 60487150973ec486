"""How much more probability each lens gives to the most frequent tokens than the model does in the end."""

from __future__ import annotations

from depthscope.charts import Spec, dashed, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("lens_validation",)
READS = ("mass_above_final",)
TITLE = "Mass of the most frequent tokens above the final one, by lens"


def plot(result: Result) -> Spec:
    """Mean mass of the most frequent bucket minus that under the final state, one line a lens; 0 dashed."""
    found = present(result, READS)["mass_above_final"]
    bucket = found.axes["bucket"][0]
    series = split(found.select(bucket=bucket), "lens")
    drawn = [*lines(series, "state", "mass above final"), *dashed(0.0, "as much as under the final state")]
    return finish(drawn, TITLE, described(series, "state"), f"tokens of frequency rank {bucket}")
