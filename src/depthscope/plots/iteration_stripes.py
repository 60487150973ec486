"""Where each head looks while steps are worked through: at the input of the step, and at the end of the inputs."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("iteration_heads",)
READS = ("input_share", "end_share", "input_weight", "end_weight")
TITLE = "Heads that move along with the steps"
WORDS = {
    "input_share": "rows that look at the step's input",
    "end_share": "rows that look at the end of the inputs",
    "input_weight": "mean weight on the step's input",
    "end_weight": "mean weight on the end of the inputs",
}


def plot(result: Result) -> Spec:
    """A map: layer down, head across; the score is chosen in a list. Layers without heads stay empty."""
    return head_map(present(result, READS), WORDS, TITLE)
