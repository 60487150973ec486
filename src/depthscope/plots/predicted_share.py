"""How much of each layer's state is predicted, by what the variance is taken around."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("predictability",)
READS = ("r2",)
TITLE = "Predicted share of the states' variance"
SHOWN = ("dim", "uniform", "position", "late", "fresh", "without_top")
"""Definitions that are drawn; `element` would stretch the scale and says least."""


def plot(result: Result) -> Spec:
    """R squared by layer, one line a definition; 0 is what knowing the mean gives."""
    found = present(result, READS)["r2"]
    there = np.asarray(found.axes["definition"]).tolist()
    series = {name: found.select(definition=name) for name in SHOWN if name in there}
    layers = [*dashed(0.0, "what knowing the mean gives"), *lines(series, "layer", "R squared")]
    return finish(layers, TITLE, described(series, "layer"), "element is in the table")
