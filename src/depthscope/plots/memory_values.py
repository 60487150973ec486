"""How sure the decoded values of memories are, by layer."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("mlp_memory",)
READS = ("value_probability",)
TITLE = "How likely the likeliest word of a memory is"


def plot(result: Result) -> Spec:
    """Mean of the largest decoded probability by layer, of both signs."""
    found = present(result, READS)["value_probability"]
    series = {str(sign): found.select(mode=sign) for sign in np.asarray(found.axes["mode"])}
    return finish(lines(series, "layer", "probability"), TITLE, described(series, "layer"))
