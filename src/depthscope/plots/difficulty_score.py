"""Depth scores by level of difficulty."""

from __future__ import annotations

import numpy as np

from depthscope.charts import COLOURS, Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("depth_by_difficulty",)
READS = ("depth_score",)
TITLE = "Depth score by level of difficulty"
WORDS = {1.0: "uses more depth", 0.0: "no meaningful change", -1.0: "uses less depth"}


def plot(result: Result) -> Spec:
    """One curve a score over levels, all problems; the verdict on the main score is in words."""
    found = present(result, READS)["depth_score"].select(kept="all")
    scores = np.asarray(found.axes["score"]).tolist()[: len(COLOURS)]
    series = {score: found.select(score=score) for score in scores}
    drawn = lines(series, "level", "centre of the effects, layers")
    return finish(drawn, TITLE, described(series, "level"), _said(result, scores[0]))


def _said(result: Result, score: str) -> str:
    """The verdict on all problems, where it is in the result."""
    judged = result.findings.measurements.get("verdict")
    if judged is None:
        return ""
    value = float(judged.select(score=score, kept="all").value)
    return f"{score}: {WORDS.get(value, 'inconclusive')}"
