"""Over how many directions the vectors of a set of texts spread."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("dataset_geometry",)
READS = ("dataset_entropy",)
TITLE = "Dataset entropy"


def plot(result: Result) -> Spec:
    """Dataset entropy by state, one line per mode."""
    found = present(result, READS)["dataset_entropy"]
    series = split(found, "mode")
    return finish(lines(series, "state", "dataset entropy"), TITLE, described(series, "state"))
