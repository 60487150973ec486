"""How large what each sublayer writes is, against the stream it writes to."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("residual_contribution",)
READS = ("attention_relative_norm", "mlp_relative_norm", "block_relative_norm")
TITLE = "Size of each write, relative to the stream"


def plot(result: Result) -> Spec:
    """Norm of the write over norm of the stream, by layer, for attention (the mixer), MLP and whole block."""
    series = {name.removesuffix("_relative_norm"): found for name, found in present(result, READS).items()}
    return finish(lines(series, "layer", "relative norm", "auto"), TITLE, described(series, "layer"))
