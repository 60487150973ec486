"""What removing layers by each criterion costs."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("pruning_damage",)
READS = ("loss_increase",)
TITLE = "Loss added by removing layers, by criterion"
SHOWN = ("influence", "angular", "loss", "future", "taylor", "deepest", "random")


def plot(result: Result) -> Spec:
    """Rise of the loss by how many layers are left, protected layers kept; one line a criterion."""
    found = present(result, READS)["loss_increase"].select(mode="protected")
    there = [name for name in SHOWN if name in np.asarray(found.axes["criterion"])]
    series = {name: found.select(criterion=name) for name in there}
    known = {name: one for name, one in series.items() if np.isfinite(one.value).any()} or series
    return finish(lines(known, "kept", "loss increase", "auto"), TITLE, described(known, "kept"))
