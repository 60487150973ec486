"""How often a memory says what follows the input that it waits for, by layer."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("mlp_memory",)
READS = ("agreement", "agreement_chance")
TITLE = "Memories that say what follows their inputs"


def plot(result: Result) -> Spec:
    """Share of memories by layer, of both signs, and of random pairs of input and value."""
    found = present(result, READS)
    signs = [str(sign) for sign in np.asarray(found["agreement"].axes["mode"])]
    series = {sign: found["agreement"].select(mode=sign) for sign in signs}
    if "agreement_chance" in found:
        series["chance"] = found["agreement_chance"].select(mode=signs[0])
    note = "the likeliest token of the value is the one behind the largest input"
    return finish(lines(series, "layer", "share of memories"), TITLE, described(series, "layer"), note)
