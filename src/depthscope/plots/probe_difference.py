"""Which part of a state says more, the predictable or the novel one, by task and layer."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("component_probes",)
READS = ("difference",)
TITLE = "Predictable part minus novel part"


def plot(result: Result) -> Spec:
    """Difference of macro F1 by layer, one line a task, and one a task for the leaky split where there is one."""
    found = present(result, READS)["difference"].select(score="macro_f1")
    series = {}
    for variant in np.asarray(found.axes["variant"]).tolist():
        for task in np.asarray(found.axes["task"]).tolist():
            one = found.select(variant=variant, task=task)
            if variant == "causal" or np.isfinite(one.value).any():
                name = str(task).replace("_", " ")
                series[name if variant == "causal" else f"{name}, leaky"] = one
    layers = [*dashed(0.0, "both say as much"), *lines(series, "layer", "difference of F1")]
    return finish(layers, TITLE, described(series, "layer"), "above 0 the predictable part says more")
