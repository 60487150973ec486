"""Sentences about the stream say where, nowhere, or that it is not decided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import synthetic

from depthscope.report.residual import late_width, writes_turn
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result


def contribution(layer: float, low: float, high: float, support: float) -> dict[str, Result]:
    result = synthetic.residual_contribution()
    found = dict(result.findings.measurements)
    found |= {m.name: m for m in synthetic.crossing(layer, low, high, support)}
    return {"residual_contribution": replace(result, findings=Findings(found))}


@pytest.mark.parametrize(
    ("given", "decided", "words"),
    [
        ((7, 6, 8, 1.0), True, "After layer 7 of 12 (67% of the depth)"),
        ((np.nan, np.nan, np.nan, 0.0), True, "Nowhere"),
        ((np.nan, np.nan, np.nan, 0.4), False, "Not decided"),
        ((7, 6, 8, 0.9), False, "Not decided"),
        ((7, 2, 8, 1.0), False, "Not decided"),
        ((7, np.nan, np.nan, 1.0), False, "Not decided"),
    ],
)
def test_a_turn_is_told_where_it_is_sure(given: tuple[float, ...], decided: bool, words: str) -> None:
    found = writes_turn(contribution(*given))
    assert found.decided == decided
    assert found.sentence.startswith(words)
    assert found.because


@pytest.mark.parametrize(
    ("late", "spread", "words"),
    [(0.2, 0.1, "States of the last third need more"), (-0.2, 0.1, "States of the last third need less"),
     (0.05, 0.1, "Not decided")],
)  # fmt: skip
def test_late_widths_are_compared_where_the_interval_allows(late: float, spread: float, words: str) -> None:
    found = late_width({"residual_width": synthetic.residual_width(late, spread)})
    assert found.sentence.startswith(words)
    assert found.decided == (not words.startswith("Not"))


def test_a_width_that_could_not_be_measured_decides_nothing() -> None:
    result = synthetic.residual_width()
    gone = Measurement("late_minus_middle", {}, np.asarray(np.nan), "1", missing="too few states")
    found = dict(result.findings.measurements) | {"late_minus_middle": gone}
    told = late_width({"residual_width": replace(result, findings=Findings(found))})
    assert told.sentence == "Not decided: too few states."
