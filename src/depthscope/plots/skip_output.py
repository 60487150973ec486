"""How far the output moves when a layer, or one of its sublayers, is skipped."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("layer_skip",)
READS = ("output_kl",)
TITLE = "Change of the output by skipping a layer"
FIRST = ("block", "attention", "mlp")


def plot(result: Result) -> Spec:
    """KL from the clean output by layer: whole block, sublayers, and the noise floor dashed."""
    found = present(result, READS)["output_kl"]
    parts = sorted(np.asarray(found.axes["sublayer"]).tolist(), key=(*FIRST, *found.axes["sublayer"]).index)
    series = {name: found.select(sublayer=name) for name in parts}
    drawn = lines(series, "layer", "KL from the clean output", "auto")
    if "noise_floor" in result.findings.measurements:
        drawn += dashed(3 * result["noise_floor"].scalar(), "three times the noise floor")
    return finish(drawn, TITLE, described(series, "layer"))
