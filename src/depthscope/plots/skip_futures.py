"""Which layers later tokens need, beside those that the token itself needs."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("layer_skip",)
READS = ("future_shift", "shift")
TITLE = "Skipping a layer: change of the output at all tokens and at future ones"


def plot(result: Result) -> Spec:
    """Distance of the output distributions by layer, whole layers: skipped everywhere, and before a split only."""
    found = present(result, READS)
    names = {"shift": "all tokens", "future_shift": "future tokens"}
    series = {
        names[name]: found[name].select(sublayer="block")
        for name in ("shift", "future_shift")
        if name in found
    }
    drawn = lines(series, "layer", "distance of distributions", "auto")
    return finish(drawn, TITLE, described(series, "layer"), _half_ratio(result))


def _half_ratio(result: Result) -> str:
    """What the second half of the layers amounts to, in words; empty where it was not measured."""
    measured = result.findings.measurements
    if "half_ratio" not in measured:
        return ""
    ratio, found = measured["half_ratio"], []
    for name, words in (("shift", "all tokens"), ("future_shift", "future tokens")):
        value = ratio.select(variant=name).scalar() if name in ratio.axes["variant"] else np.nan
        found += [f"{words} {value:.2g}"] if np.isfinite(value) else []
    return f"second half of layers over the first: {', '.join(found)}" if found else ""
