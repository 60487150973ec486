"""How evenly each prompt's token vectors spread over directions."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("representation_profile",)
READS = ("prompt_entropy",)
TITLE = "Prompt entropy"


def plot(result: Result) -> Spec:
    """Prompt entropy by state, one line per mode."""
    found = present(result, READS)["prompt_entropy"]
    series = {str(mode): found.select(mode=mode) for mode in found.axes["mode"]}
    return finish(lines(series, "state", "prompt entropy"), TITLE, described(series, "state"))
