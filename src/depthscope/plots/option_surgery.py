"""How much of each ability to choose is left when the middle of the network is altered."""

from __future__ import annotations

from depthscope.charts import Spec, finish, present, split
from depthscope.charts.points import points, ranked
from depthscope.results.result import Result

SUITS = ("surgery_options",)
READS = ("normalised",)
TITLE = "Ability left after surgery on the middle layers"


def plot(result: Result) -> Spec:
    """Points with intervals by plan, one colour a task, with the fewest layers altered of those that were asked for."""
    found = present(result, READS)["normalised"]
    kept = max(int(k) for k in found.axes["kept"])
    series = split(found.select(kept=kept), "task")
    told = " ".join(f"{task}: {ranked(one, 'variant')}" for task, one in series.items())
    layers = points(
        series, "variant", f"what is done, {kept} layers kept", "ability left, 1 is intact, 0 guessing"
    )
    return finish(layers, TITLE, told)
