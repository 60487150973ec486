"""How much of its attention each head gives the first token."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("attention_sinks",)
READS = ("first_share",)
TITLE = "Attention to the first token"
WORDS = {"first_share": "mean attention to the first token"}


def plot(result: Result) -> Spec:
    """A map of heads."""
    return head_map(present(result, READS), WORDS, TITLE)
