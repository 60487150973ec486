"""Entropy when one token takes each position with probability p."""

from __future__ import annotations

import numpy as np

from depthscope.plots import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("extreme_inputs",)
READS = ("repetition_entropy",)
TITLE = "Prompt entropy as one token is repeated"
DRAWN = 5
"""Levels that are drawn at most, evenly; the table has all."""


def plot(result: Result) -> Spec:
    """Normalised entropy by state, a line a level, every position counted."""
    found = present(result, READS)["repetition_entropy"].select(mode="exact")
    levels = np.asarray(found.axes["level"])
    drawn = levels[np.unique(np.linspace(0, len(levels) - 1, min(DRAWN, len(levels))).round().astype(int))]
    series = {f"p = {level:.2g}": found.select(level=level) for level in drawn.tolist()}
    note = f"{len(drawn)} of {len(levels)} levels" if len(drawn) < len(levels) else ""
    return finish(lines(series, "state", "prompt entropy"), TITLE, described(series, "state"), note)
