"""The verdict on difficulty: whether harder problems use more depth, no more, or neither can be said."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.measures.trend import WORDS
from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]
SCORE = "future_output"
"""The score that decides; the others stand beside it in the table."""


def harder_deeper(results: Results) -> Verdict:
    """Whether harder problems use more depth: slope of the score over levels, answered problems where there are enough.

    Not decided where neither the slope's interval leaves 0 nor the equivalence test holds.
    """
    topic = "Whether harder problems use more depth"
    found = results["depth_by_difficulty"]
    kept = "answered" if np.isfinite(found["slope"].select(score=SCORE, kept="answered").value) else "all"
    at = {"score": SCORE, "kept": kept}
    slope, judged = Cell.of(found["slope"], **at), Cell.of(found["verdict"], **at).value
    if not np.isfinite(slope.value):
        return Verdict(topic, f"Not decided: {found['slope'].missing or 'too few problems'}.", False, "")
    least, p = (Cell.of(found[name], **at).value for name in ("detectable_slope", "equivalence_p"))
    because = (
        f"depth_by_difficulty/slope of {SCORE} over {kept} problems is {slope.said()} layers per level; equivalence "
        f"p = {p:.2g}, the threshold is 0.05; a slope of {least:.2g} would have been found."
    )
    whose = "problems that the model answers" if kept == "answered" else "problems (answered or not)"
    said = {
        1.0: f"Harder {whose} have their effects deeper, by {slope.value:.2g} layers per level.",
        0.0: f"Harder {whose} use no more depth: the change over all levels stays within the margin.",
        -1.0: f"Harder {whose} have their effects at smaller depth, by {-slope.value:.2g} layers per level.",
    }
    if judged not in WORDS or not np.isfinite([slope.low, slope.high]).all():
        return Verdict(
            topic,
            f"Not decided for {whose}: neither a trend nor its absence is shown.",
            False,
            because,
        )
    return Verdict(topic, said[judged], True, because)
