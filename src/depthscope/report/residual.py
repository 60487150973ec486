"""Verdicts on the stream: where writes turn from erasing to strengthening, and whether its width is in use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]

SURE = 0.95
"""Share of the bootstrap draws that must agree on whether there is a transition."""

WIDE = 0.25
"""An interval of the transition that spans more than this share of the depth decides nothing."""


def writes_turn(results: Results) -> Verdict:
    """Where writes turn from erasing to strengthening: last rise of the cosines through zero, or that there is none."""
    topic = "Where writes turn from erasing to strengthening"
    found = results["residual_contribution"]
    cell, support = Cell.of(found["cosine_crossing"]), found["cosine_crossing_support"].scalar()
    depth = len(found["block_cosine"].axes["layer"])
    because = (
        f"residual_contribution/cosine_crossing is {cell.said('g')}, found in {support:.0%} of the draws; it "
        f"decides at {SURE:.0%} and an interval of at most {WIDE:.0%} of the depth."
    )
    if np.isnan(cell.value):
        because = f"The mean cosine never rises through zero; it does in {support:.0%} of the draws."
        if support <= 1 - SURE:
            return Verdict(
                topic,
                "Nowhere: the mean cosine of writes and stream never rises through zero.",
                True,
                because,
            )
    if np.isnan(cell.value) or support < SURE or not cell.high - cell.low <= WIDE * depth:
        return Verdict(topic, "Not decided: the layer of the turn is too uncertain.", False, because)
    return Verdict(
        topic,
        f"After layer {cell.value:g} of {depth} ({(cell.value + 1) / depth:.0%} of the depth) writes stop erasing on "
        "average and strengthen what is there; the cosine says little about overlapping features.",
        True,
        because,
    )


def late_width(results: Results) -> Verdict:
    """Whether late states need more of the width: causal width over d, last third minus middle third, against 0."""
    topic = "Whether late states need more of the width"
    result = results["residual_width"]
    found, shares = result["late_minus_middle"], result["width_share"]
    if np.isnan(found.scalar()):
        return Verdict(topic, f"Not decided: {found.missing}.", False, "")
    cell = Cell.of(found)
    needed = shares.select(mode="causal_width").value
    because = f"residual_width/late_minus_middle is {cell.said()} of the width; the threshold is 0."
    if cell.low > 0:
        words = "more"
    elif cell.high < 0:
        words = "less"
    else:
        return Verdict(topic, "Not decided: the interval of the difference holds 0.", False, because)
    sentence = (
        f"States of the last third need {words} of the width than those of the middle ({cell.value:+.0%}); over all "
        f"states the loss needs {np.nanmin(needed):.0%} to {np.nanmax(needed):.0%}. Whether a wider model would be "
        "better is another question: this is a correlation at best."
    )
    return Verdict(topic, sentence, True, because)
