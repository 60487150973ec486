"""How much predictors of different designs explain, against how many numbers they learn."""

from __future__ import annotations

from depthscope.charts import Spec, finish, present
from depthscope.charts.points import against, ranked
from depthscope.results.result import Result

SUITS = ("predictor_sweep",)
READS = ("r2", "parameters")
TITLE = "R2 of predictors against their size"


def plot(result: Result) -> Spec:
    """R2 about the mean of each dimension, a point for each design and layer."""
    found = present(result, READS)
    r2 = found["r2"].select(definition="dim")
    drawn = against(r2, found["parameters"], "variant", "layer", "learned numbers", "R2")
    last = r2.select(layer=r2.axes["layer"][-1])
    return finish(drawn, TITLE, f"At the last layer: {ranked(last, 'variant')}")
