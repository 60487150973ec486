"""Whether the expected or the novel part of a state says more, by the design that takes it apart."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, present, split
from depthscope.charts.points import points, ranked
from depthscope.results.result import Result

SUITS = ("predictor_sweep",)
READS = ("probe_difference",)
ON_REQUEST = True
TITLE = "What the expected part says more than the novel one"


def plot(result: Result) -> Spec:
    """F1 of the expected part minus that of the novel one, by design; a series a task, at the last layer."""
    found = present(result, READS)["probe_difference"]
    last = np.asarray(found.axes["layer"]).tolist()[-1]
    series = split(found.select(layer=last), "task")
    drawn = points(series, "variant", "design", "difference of F1")
    spans = "; ".join(f"{name}: {ranked(one, 'variant')}" for name, one in series.items())
    return finish(drawn, TITLE, f"Difference of F1 at layer {last}; {spans}", f"layer {last}")
