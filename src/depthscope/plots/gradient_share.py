"""Which part of a prompt carries its answer at each layer: shares of the absolute attribution of block outputs."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("integrated_gradients",)
READS = ("attribution_share",)
TITLE = "What carries the answer at the output of each layer"
PARTS = ("question", "last", "answer")


def plot(result: Result) -> Spec:
    """One line for question tokens, the question's last position, and answer tokens."""
    parts = split(present(result, READS)["attribution_share"].select(sublayer="block"), "bucket")
    series = {name: parts[name] for name in PARTS}
    words = "share of the absolute attribution"
    return finish(lines(series, "layer", words), TITLE, described(series, "layer"))
