"""Which heads follow a grammatical relation."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("grammar_heads",)
READS = ("gain", "best_accuracy", "sink_share", "tree_uas")
TITLE = "Grammar by head"
WORDS = {
    "gain": "accuracy above the best offset, in the head's own relation",
    "best_accuracy": "accuracy in the head's own relation",
    "sink_share": "share of words that look at a sink first",
    "tree_uas": "words on the right head in its spanning tree",
}


def plot(result: Result) -> Spec:
    """A map: layer down, head across; the score is chosen in a list."""
    return head_map(present(result, READS), WORDS, TITLE)
