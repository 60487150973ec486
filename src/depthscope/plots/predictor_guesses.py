"""How much of the next state each guess knows: the predictor, ridge regressions, tables, and two that see the token."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("predictor",)
READS = ("guess_r2",)
TITLE = "Predicted share of the variance, guess by guess"
NAMES = {
    "predictor": "predictor", "ridge_2": "ridge, two states", "ridge": "ridge, one state", "unigram": "token before",
    "position_mean": "position", "ridge_token": "ridge, sees the token", "token": "table, sees the token",
}  # fmt: skip


def plot(result: Result) -> Spec:
    """R2 about the mean of each dimension by layer, a line a guess; the copy of the last state is left out."""
    found = present(result, READS)["guess_r2"]
    there = {str(name) for name in found.axes["variant"]}
    series = {words: found.select(variant=name) for name, words in NAMES.items() if name in there}
    return finish(lines(series, "layer", "R2"), TITLE, described(series, "layer"))
