"""The verdict on difficulty says deeper, not deeper, shallower, or that it cannot tell, and of which problems."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.report.difficulty import harder_deeper
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text

AXES = {"score": np.array(["future_output", "settle"]), "kept": np.array(["all", "answered"])}
NAN = float("nan")


def result(slope: tuple[float, float, float], verdict: float, answered: bool = True) -> dict[str, Result]:
    """Both choices of problems hold the same numbers, or the answered ones none; the other score says otherwise."""

    def filled(name: str, value: float, low: float = NAN, high: float = NAN) -> Measurement:
        parts = [np.array([[part, part if answered else NAN], [9.0, 9.0]]) for part in (value, low, high)]
        return Measurement(
            name, AXES, parts[0], "1", parts[1], parts[2], np.full((2, 2), 80), missing="too few"
        )

    found = [
        filled("slope", *slope),
        filled("verdict", verdict),
        filled("detectable_slope", 0.15),
        filled("equivalence_p", 0.3),
    ]
    findings = Findings({m.name: m for m in found})
    text = Text("Title", "Why?", "So.", "Look.", "Careful.", "Me 2020.")
    return {"depth_by_difficulty": Result("depth_by_difficulty", {}, findings, text, {})}


@pytest.mark.parametrize(
    ("slope", "verdict", "decided", "words"),
    [
        ((0.4, 0.2, 0.6), 1.0, True, "have their effects deeper, by 0.4 layers per level"),
        (
            (0.01, -0.02, 0.03),
            0.0,
            True,
            "use no more depth: the change over all levels stays within the margin",
        ),
        ((-0.4, -0.6, -0.2), -1.0, True, "at smaller depth, by 0.4 layers per level"),
        ((0.1, -0.2, 0.4), NAN, False, "Not decided for problems that the model answers"),
        ((NAN, NAN, NAN), NAN, False, "Not decided: too few"),
    ],
)
def test_the_slope_and_the_equivalence_test_decide(
    slope: tuple[float, float, float], verdict: float, decided: bool, words: str
):
    said = harder_deeper(result(slope, verdict))
    assert said.decided == decided
    assert words in said.sentence
    assert ("0.15 would have been found" in said.because) == np.isfinite(slope[0])


def test_where_too_few_are_answered_all_problems_are_judged_and_it_says_so():
    said = harder_deeper(result((0.4, 0.2, 0.6), 1.0, answered=False))
    assert said.sentence.startswith("Harder problems (answered or not) have their effects deeper")
    assert "over all problems" in said.because
