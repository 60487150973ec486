"""Whether predictors of different designs find the same tokens novel."""

from __future__ import annotations

from depthscope.charts import Spec, finish, present, split
from depthscope.charts.points import points, ranked
from depthscope.results.result import Result

SUITS = ("predictor_sweep",)
READS = ("novelty_with_base",)
TITLE = "Agreement with the base on which tokens are novel"


def plot(result: Result) -> Spec:
    """Rank correlation of the lengths of the novel parts with those of the base design, by design and layer."""
    found = present(result, READS)["novelty_with_base"]
    series = {f"layer {label}": one for label, one in split(found, "layer").items()}
    drawn = points(series, "variant", "design", "rank correlation")
    last = next(reversed(series.values()))
    return finish(drawn, TITLE, f"At the last layer: {ranked(last, 'variant')}")
