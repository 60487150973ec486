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
