"""The sentence on tasks says earlier, last, or not decided, and holds in every mode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import synthetic

from depthscope.report.correlates import metric_table, metrics_follow
from depthscope.report.quality import earlier_or_last, main_score
from depthscope.results.result import Findings, Result

CASES = [
    (
        {"topics": (0.1, 0.08)},
        True,
        "An earlier state beats the last in topics (best at state 6 of 12, +0.100 in mean).",
    ),
    ({"topics": (-0.1, -0.08)}, True, "The last state beats all earlier ones in topics."),
    ({"topics": (0.1, 0.01)}, False, "Not decided in topics."),
    ({"topics": (0.1, -0.1)}, False, "Not decided in topics."),
    (
        {"topics": (0.1, 0.1), "alike": (0.0, 0.0), "other": (-0.1, -0.1)},
        True,
        "An earlier state beats the last in topics (best at state 6 of 12, +0.100 in mean); the last state beats all "
        "earlier ones in other; not decided in alike.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("gains", "decided", "sentence"), CASES, ids=[str(c[0])[:40] for c in CASES])
def test_a_task_is_decided_where_all_modes_agree(
    gains: dict[str, tuple[float, float]], decided: bool, sentence: str
) -> None:
    found = earlier_or_last({"layer_quality": synthetic.layer_quality(gains)})
    assert found.sentence == sentence
    assert found.decided == decided
    assert "topics, few_shot, mean: +" in found.because or "topics, few_shot, mean: -" in found.because


def test_the_main_score_of_a_task_is_the_first_that_it_has() -> None:
    result = synthetic.layer_quality()
    assert main_score(result, "topics") == "few_shot"
    assert main_score(result, "alike") == "spearman"


def profile(curve: np.ndarray) -> Result:
    """A profile whose prompt entropy is that curve and which measures nothing else."""
    result = synthetic.representation_profile()
    value = np.stack([curve] * len(synthetic.MODES), -1)
    entropy = replace(result["prompt_entropy"], value=value, low=value - 0.01, high=value + 0.01)
    return replace(result, findings=Findings({"prompt_entropy": entropy}))


def test_a_metric_that_goes_with_the_scores_of_all_tasks_is_named_with_its_sign() -> None:
    quality = synthetic.layer_quality()
    hill = np.sin(np.pi * synthetic.DEPTH)
    for sign, word in ((1, "rises"), (-1, "falls")):
        found = metrics_follow({"layer_quality": quality, "representation_profile": profile(sign * hill)})
        assert found.sentence == (
            f"In this model prompt_entropy (wei_no_massive) {word} where scores rise, in all 2 tasks."
        )
        assert f"topics: rho {sign:+.2f}" in found.because


def test_a_metric_without_one_direction_decides_nothing() -> None:
    quality = synthetic.layer_quality()
    noise = np.random.default_rng(0).normal(size=synthetic.L + 1)
    found = metrics_follow({"layer_quality": quality, "representation_profile": profile(noise)})
    assert not found.decided
    assert found.sentence == "Not decided: no metric has one direction in all 2 tasks."
    assert not metrics_follow({"layer_quality": quality}).decided


def test_a_metric_without_an_interval_is_not_compared() -> None:
    measured = profile(np.sin(np.pi * synthetic.DEPTH))
    bare = replace(measured["prompt_entropy"], low=None, high=None)
    alone = replace(measured, findings=Findings({"prompt_entropy": bare}))
    found = metrics_follow({"layer_quality": synthetic.layer_quality(), "representation_profile": alone})
    assert not found.decided


def test_the_table_of_metrics_has_a_row_for_each_task_with_the_sign_of_this_model() -> None:
    quality = synthetic.layer_quality()
    falling = profile(-np.sin(np.pi * synthetic.DEPTH))
    found = metric_table({"layer_quality": quality, "representation_profile": falling})
    assert found is not None
    assert [row[:2] for row in found.rows] == [
        ("prompt_entropy (wei_no_massive)", "topics"), ("prompt_entropy (wei_no_massive)", "alike"),
    ]  # fmt: skip
    assert all(row[2].startswith("\N{MINUS SIGN}") for row in found.rows)
    assert metric_table({"layer_quality": quality}) is None
    assert metric_table({"representation_profile": falling}) is None
