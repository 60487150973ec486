"""Accuracy without examples when a vector is added at each state, over tasks."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("function_vectors",)
READS = ("zero_shot_mean",)
TITLE = "Tasks done without examples, by the state a vector is added to"


def plot(result: Result) -> Spec:
    """Mean accuracy over tasks by state: the vector, twice it, the layer average, random heads, a random direction."""
    found = present(result, READS)["zero_shot_mean"]
    series = {str(kind): found.select(variant=kind) for kind in np.asarray(found.axes["variant"])}
    note = "queries that were solved with examples; means over tasks"
    return finish(lines(series, "state", "share of queries"), TITLE, described(series, "state"), note)
