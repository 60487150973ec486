"""Which heads look at what followed the last time, by eight scores."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("induction_heads",)
READS = (
    "induction",
    "prefix_matching",
    "induction_argmax",
    "duplicate",
    "echo",
    "copying",
    "own_share",
    "ov_eigenvalue",
)
TITLE = "Induction scores of heads"
WORDS = {
    "induction": "mass on what followed",
    "prefix_matching": "mass on all that followed (four copies)",
    "induction_argmax": "largest key is what followed",
    "duplicate": "mass on the same token",
    "echo": "mass on the same token, copy before (four copies)",
    "copying": "copying, own token against the next",
    "own_share": "copying, share of the own token",
    "ov_eigenvalue": "eigenvalues of the weights",
}


def plot(result: Result) -> Spec:
    """A map of heads, the score chosen in a list."""
    return head_map(present(result, READS), WORDS, TITLE)
