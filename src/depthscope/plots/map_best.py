"""Which source predicts each target best, beside what relative and absolute depth would say."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("linear_maps",)
READS = ("best_source", "expected_source")
TITLE = "Best source of each target"


def plot(result: Result) -> Spec:
    """The number of the best source by target, with its interval, and the lines of both hypotheses."""
    found = present(result, READS)
    series = {"best source": found["best_source"]} if "best_source" in found else {}
    if "expected_source" in found:
        expected = split(found["expected_source"], "definition")
        series |= {f"{name} depth": one for name, one in expected.items()}
    axis = next(iter(next(iter(series.values())).axes))
    return finish(lines(series, axis, "source"), TITLE, described(series, axis))
