"""What tokens without content get of the attention, layer by layer."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("registers", "image_registers")
READS = ("received",)
TITLE = "Attention that background cells and registers get"
KINDS = ("background", "register")


def plot(result: Result) -> Spec:
    """Over an even share, a line for each of the first three variants and kind of token that it has."""
    found = present(result, READS)["received"]
    series = {
        f"{variant}: {kind}": found.select(variant=variant, token=kind)
        for variant in np.asarray(found.axes["variant"])[:3]
        for kind in KINDS
    }
    there = {name: one for name, one in series.items() if np.isfinite(one.value).any()} or dict(
        list(series.items())[:1]
    )
    chart = [*lines(there, "layer", "over an even share"), *dashed(1.0, "an even share")]
    return finish(chart, TITLE, described(there, "layer"))
