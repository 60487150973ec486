"""The largest entry of each state beside the median one."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("massive_activations",)
READS = ("top_magnitude", "median_magnitude")
TITLE = "Largest and median entry of the stream"
NAMES = {"top_magnitude": "largest", "median_magnitude": "median"}


def plot(result: Result) -> Spec:
    """Means over texts by state; a gap of three orders of magnitude is a massive activation."""
    series = {NAMES[name]: found for name, found in present(result, READS).items()}
    return finish(lines(series, "state", "size", "auto"), TITLE, described(series, "state"))
