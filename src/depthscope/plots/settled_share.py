"""At which state predictions come near to the final one."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("adaptive_compute",)
READS = ("settled_histogram",)
TITLE = "Where predictions come near to the final one"


def plot(result: Result) -> Spec:
    """Share of positions by the first state whose divergence is below the threshold, in bits and in nats."""
    found = present(result, READS)["settled_histogram"]
    series = {f"threshold in {name}": one for name, one in split(found, "definition").items()}
    return finish(lines(series, "state", "share of positions"), TITLE, described(series, "state"))
