"""What each attention head does, by seven scores of its pattern."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("head_patterns",)
READS = ("entropy_norm", "distance", "previous", "first", "self", "local_8", "local_32")
TITLE = "Attention heads by score"
WORDS = {
    "entropy_norm": "normalised entropy",
    "distance": "mean distance (tokens)",
    "previous": "mass on the previous token",
    "first": "mass on the first token",
    "self": "mass on the token itself",
    "local_8": "mass on the last 8 tokens",
    "local_32": "mass on the last 32 tokens",
}


def plot(result: Result) -> Spec:
    """A map: layer down, head across; the score is chosen in a list. Layers without heads stay empty."""
    return head_map(present(result, READS), WORDS, TITLE)
