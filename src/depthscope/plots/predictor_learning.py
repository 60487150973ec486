"""How far the training of predictors had come when it ended."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("predictor",)
READS = ("curve_r2",)
TITLE = "Predicted share of the variance over the training"
MOST = 5
"""Layers drawn at most."""


def plot(result: Result) -> Spec:
    """R2 about the mean of each dimension on part of the judged text, a line a layer; step 0 is before any training."""
    found = present(result, READS)["curve_r2"].select(definition="dim")
    layers = [int(layer) for layer in found.axes["layer"]]
    drawn = (
        [layers[round(k * (len(layers) - 1) / (MOST - 1))] for k in range(MOST)]
        if len(layers) > MOST
        else layers
    )
    series = {f"layer {layer}": found.select(layer=layer) for layer in dict.fromkeys(drawn)}
    return finish(lines(series, "step", "R2"), TITLE, described(series, "step"))
