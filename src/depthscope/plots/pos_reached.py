"""By which state tokens are predicted, by the kind of word they start."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("pos_depth",)
READS = ("reached",)
TITLE = "Tokens on top by each state, by kind of word"
SHOWN = ("function", "content", "PUNCT", "NUM", "CONT")
NAMES = {"PUNCT": "punctuation", "NUM": "numbers", "CONT": "within words"}


def plot(result: Result) -> Spec:
    """Share of tokens that have been the top-1 at this state or before, with intervals."""
    found = present(result, READS)["reached"]
    there = [name for name in SHOWN if name in np.asarray(found.axes["word_class"])]
    series = {NAMES.get(name, name): found.select(word_class=name) for name in there}
    known = {name: one for name, one in series.items() if np.isfinite(one.value).any()} or series
    return finish(lines(known, "state", "share on top so far"), TITLE, described(known, "state"))
