"""How often each state already predicts what the model says at the end."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("logit_lens",)
READS = ("top1_agreement", "top5_overlap")
TITLE = "Agreement with the final prediction"
NAMES = {"top1_agreement": "top-1", "top5_overlap": "top-5"}


def plot(result: Result) -> Spec:
    """Share of positions with the same top-1, and mean overlap of the top-5 sets, by state."""
    series = {NAMES[name]: found for name, found in present(result, READS).items()}
    return finish(lines(series, "state", "agreement"), TITLE, described(series, "state"))
