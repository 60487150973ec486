"""How well, and how surely, each state predicts the next token."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("logit_lens",)
READS = ("cross_entropy", "entropy")
TITLE = "Loss and entropy of each state's prediction"
NAMES = {"cross_entropy": "cross-entropy", "entropy": "entropy"}


def plot(result: Result) -> Spec:
    """Cross-entropy on the true next token, and entropy of the prediction, by state."""
    series = {NAMES[name]: found for name, found in present(result, READS).items()}
    return finish(lines(series, "state", "loss, entropy"), TITLE, described(series, "state"))
