"""Verdicts on extreme inputs follow their intervals, and fall silent where an interval holds the threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from depthscope.report.extremes import length_spreads, randomness_spreads, repetition_compresses
from depthscope.report.sentence import Verdict
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text

KINDS, DEPTHS = ("repetition", "randomness", "length"), ("early", "middle", "late", "all")
AXES = {"variant": np.array(KINDS), "depth": np.array(DEPTHS), "mode": np.array(["exact", "first_kept"])}


def result(
    slope: float = -0.4, half: float = 0.1, kept: float | None = None, apart: float = 0.2, n: int = 30
) -> Mapping[str, Result]:
    """Every third has one slope; position 0 left out, perhaps another."""
    value = np.full((3, 4, 2), slope)
    value[..., 1] = slope if kept is None else kept

    def made(name: str, axes: dict, values: np.ndarray) -> Measurement:
        counts = np.full(values.shape, n)
        return Measurement(
            name, axes, values, "1", values - half, values + half, counts, counts, missing="none"
        )

    by_kind = {k: v for k, v in AXES.items() if k != "depth"}
    found = [
        made("slope_by_depth", AXES, value), made("raw_slope_by_depth", AXES, value),
        made("early_minus_late", by_kind, np.full((3, 2), apart)),
    ]  # fmt: skip
    text = Text("Title", "Why?", "So.", "Look.", "Careful.", "Me 2020.")
    return {"extreme_inputs": Result("extreme_inputs", {}, Findings({m.name: m for m in found}), text, {})}


@pytest.mark.parametrize(
    ("rule", "given", "decided", "words"),
    [
        (repetition_compresses, {}, True, "Repeated tokens lower the prompt entropy in the middle third"),
        (repetition_compresses, {"slope": 0.4}, True, "Repeated tokens raise"),
        (repetition_compresses, {"slope": -0.05}, False, "an interval holds 0"),
        (repetition_compresses, {"kept": 0.4}, False, "position 0 changes the answer"),
        (repetition_compresses, {"n": 7}, False, "at least 8 independent texts are needed, found 7"),
        (repetition_compresses, {"slope": np.nan}, False, "no layer"),
        (
            randomness_spreads,
            {"slope": 0.3},
            True,
            "raise the prompt entropy in the first third of the depth, by 0.3",
        ),
        (randomness_spreads, {"slope": 0.3}, True, "above the slope of the last third"),
        (randomness_spreads, {"slope": 0.3, "apart": -0.2}, True, "below the slope of the last third"),
        (randomness_spreads, {"slope": 0.3, "apart": 0.0}, True, "not told apart from"),
        (randomness_spreads, {"slope": -0.3}, True, "Random tokens lower"),
        (randomness_spreads, {"slope": 0.05}, False, "an interval holds 0"),
        (randomness_spreads, {"slope": 0.3, "kept": -0.3}, False, "position 0 changes the answer"),
        (length_spreads, {"slope": 0.6}, True, "grows with their length, slower than its logarithm"),
        (length_spreads, {"slope": 1.6}, True, "grows with their length, faster"),
        (
            length_spreads,
            {"slope": 1.6, "kept": 0.6},
            False,
            "faster than the logarithm with position 0, slower without",
        ),
        (length_spreads, {"slope": 0.95}, False, "holds a threshold"),
        (length_spreads, {"slope": 0.0}, False, "holds a threshold"),
        (length_spreads, {"slope": -0.3}, True, "Longer random texts have less"),
    ],
)
def test_an_interval_decides_or_does_not(
    rule: Callable[[Mapping[str, Result]], Verdict], given: dict, decided: bool, words: str
):
    said = rule(result(**given))
    assert said.decided == decided
    assert words in said.sentence
    assert "extreme_inputs/" in said.because
