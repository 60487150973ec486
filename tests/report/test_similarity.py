"""Sentences about vectors of whole texts are told where intervals allow, and not where they meet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import synthetic

from depthscope.report.similarity import largest_change, late_or_early, most_invariant
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result


def without_values(result: Result) -> Result:
    gone = {
        name: Measurement(name, m.axes, np.full(m.value.shape, np.nan), m.unit, missing="all alike")
        for name, m in result.findings.measurements.items()
    }
    return replace(result, findings=Findings(gone))


@pytest.mark.parametrize(
    ("best", "gain", "spread", "decided", "words"),
    [
        (8, 0.3, 0.1, True, "State 8 of 12 better than the last one: views find their partner in 50%"),
        (8, 0.05, 0.1, False, "Not decided: the best state cannot be told from the last"),
        (12, 0.0, 0.01, True, "The last state: views find their partner in 50%"),
        (12, 0.0, 0.1, False, "Not decided: earlier states are as good as the last"),
    ],
)
def test_the_state_that_noise_moves_least_is_set_against_the_last(
    best: int, gain: float, spread: float, decided: bool, words: str
) -> None:
    found = most_invariant({"augmentation_invariance": synthetic.augmentation_invariance(best, gain, spread)})
    assert found.decided == decided
    assert found.sentence.startswith(words)
    assert decided == ("untrained null" in found.sentence)
    assert "threshold is 0" in found.because


@pytest.mark.parametrize(
    ("change", "spread", "words"),
    [
        (0.4, 0.05, "Layer 5 of 12: debiased CKA falls to 0.60"),
        (0.12, 0.3, "Not decided: the layer of the largest"),
    ],
)
def test_a_layer_is_named_where_no_other_comes_near(change: float, spread: float, words: str) -> None:
    found = largest_change({"layer_similarity": synthetic.layer_similarity(5, change, spread)})
    assert found.sentence.startswith(words)
    assert found.decided == (not words.startswith("Not"))
    assert "mean_no_massive" in found.because


def test_a_layer_that_only_one_pooling_names_is_not_decided() -> None:
    result = synthetic.layer_similarity(5)
    change = result["change"]
    modes = np.array(["mean_no_first", "mean_no_massive"])
    apart = replace(change, axes={**change.axes, "mode": modes}, value=change.value.copy())
    apart.value[5, 0], apart.value[7, 0] = 0.1, 0.4
    parts = {
        part: np.stack([apart.value[:, k] * sign for k in (0, 1)], -1)
        for part, sign in (("low", 0.95), ("high", 1.05))
    }
    found = Findings({**result.findings.measurements, "change": replace(apart, **parts)})
    said = largest_change({"layer_similarity": replace(result, findings=found)})
    assert said.sentence == "Not decided: it depends on which tokens are left out."
    assert "layer 7" in said.because
    assert "layer 5" in said.because


def two_models(late: float, spread: float) -> Result:
    alike = synthetic.layer_similarity()
    modes, states = ("mean", "mean_no_massive"), np.arange(4)
    ends = (np.full(2, late - spread), np.full(2, late + spread))
    found = {
        "late_minus_early": Measurement(
            "late_minus_early", {"mode": np.asarray(modes)}, np.full(2, late), "1", *ends
        ),
        "same_depth": Measurement(
            "same_depth",
            {"state": states, "mode": np.asarray(modes)},
            np.stack([[0.9, 0.8, 0.3, 0.5]] * 2, -1),
            "1",
        ),
    }
    return replace(alike, analysis="model_similarity", findings=Findings(found))


@pytest.mark.parametrize(
    ("late", "spread", "words"),
    [
        (-0.4, 0.1, "Late: early states"),
        (0.4, 0.1, "Early: late states"),
        (0.05, 0.1, "Not decided: early and late"),
    ],
)
def test_models_part_late_early_or_undecided(late: float, spread: float, words: str) -> None:
    found = late_or_early({"model_similarity": two_models(late, spread)})
    assert found.sentence.startswith(words)
    assert found.decided == (not words.startswith("Not"))
    assert found.decided == ("states 2 (debiased CKA 0.30)" in found.sentence)
    gone = late_or_early({"model_similarity": without_values(two_models(0.4, 0.1))})
    assert (gone.sentence, gone.decided) == ("Not decided: all alike.", False)


def test_scores_without_a_value_decide_nothing() -> None:
    for rule, result in (
        (most_invariant, synthetic.augmentation_invariance()),
        (largest_change, synthetic.layer_similarity()),
    ):
        found = rule({result.analysis: without_values(result)})
        assert (found.sentence, found.decided) == ("Not decided: all alike.", False)
