"""Which heads look at the token that they say next, and which echo what came before."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("retrieval_heads",)
READS = (
    "retrieval",
    "needle_mass",
    "activation_frequency",
    "sink_argmax",
    "echo",
    "echo_induction",
    "full_cache",
)
TITLE = "Retrieval scores of heads"
WORDS = {
    "retrieval": "share of the answer copied",
    "needle_mass": "mass on the answer",
    "activation_frequency": "tests with a copied token",
    "sink_argmax": "rows that look at the first token most",
    "echo": "mass on the same token, copy before",
    "echo_induction": "mass behind it",
    "full_cache": "keeps its whole cache",
}


def plot(result: Result) -> Spec:
    """A map of heads, the score chosen in a list."""
    return head_map(present(result, READS), WORDS, TITLE)
