"""Verdict on erasure: whether the question is still needed in the second half of the depth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result


def question_needed(results: Mapping[str, Result]) -> Verdict:
    """Until which depth an answer needs its question: the mean point of no return against half of the depth."""
    topic = "Until which depth an answer needs its question"
    found = results["residual_erasure"]
    last = int(np.asarray(found["effect"].axes["state"]).max())
    cell = Cell.of(found["point_of_no_return"], task="all")
    right = Cell.of(found["accuracy"], task="all")
    if not np.isfinite(cell.value):
        return Verdict(topic, "Not decided: no erasure of a question token had an effect.", False, "")
    because = (
        f"residual_erasure/point_of_no_return is {cell.said()} of {last} states; the threshold is {last / 2:g}. The "
        f"model answers {right.value:.0%} of these prompts."
    )
    few = cell.n is not None and cell.n < 8
    if few or (cell.low <= last / 2 <= cell.high):
        why = f"{cell.n} prompts are fewer than 8" if few else "the interval holds half of the depth"
        return Verdict(topic, f"Not decided: {why}.", False, because)
    half = "second" if cell.low > last / 2 else "first"
    until = f"until state {cell.value:.1f} of {last} on average"
    sentence = f"Question tokens are needed {until}, in the {half} half of the depth."
    return Verdict(topic, sentence, True, because)
