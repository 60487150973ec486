"""The verdict on predictors decides for more, for no more, and says when it cannot."""

from __future__ import annotations

from dataclasses import replace

from predictor_results import predictor

from depthscope.report.predictors import more_than_linear
from depthscope.results.result import Findings


def test_a_gain_above_the_threshold_names_its_layers():
    said = more_than_linear({"predictor": predictor()})
    assert said.decided
    assert "at layers 5, 11" in said.sentence
    assert "40% of a state's variance (layer 11)" in said.sentence
    assert "n = 24" in said.because


def test_wide_intervals_decide_nothing():
    said = more_than_linear({"predictor": predictor(wide=0.2)})
    assert not said.decided
    assert said.sentence.startswith("Not decided")


def test_gains_all_below_the_threshold_say_that_one_step_is_enough():
    found = predictor()
    gain = found["gain"]
    small = replace(gain, value=gain.value * 0, low=gain.value * 0 - 0.01, high=gain.value * 0 + 0.01)
    measured = {**found.findings.measurements, "gain": small}
    said = more_than_linear({"predictor": replace(found, findings=Findings(measured))})
    assert said.decided
    assert "a linear map of the last state finds all but 2%" in said.sentence
