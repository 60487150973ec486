"""Whether each write strengthens the stream, turns it, or takes from it."""

from __future__ import annotations

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("residual_contribution",)
READS = ("attention_cosine", "mlp_cosine", "block_cosine")
TITLE = "Direction of each write, against the stream"


def plot(result: Result) -> Spec:
    """Cosine of the write with the stream, by layer: 1 strengthens, 0 adds something new, below 0 removes."""
    series = {name.removesuffix("_cosine"): found for name, found in present(result, READS).items()}
    zero = dashed(0.0, "at a right angle to the stream")
    return finish(lines(series, "layer", "cosine") + zero, TITLE, described(series, "layer"))
