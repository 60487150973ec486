"""The sentence on tasks says earlier, last, or not decided, and holds in every mode."""

from __future__ import annotations

import pytest
import synthetic

from depthscope.report.quality import earlier_or_last, main_score

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
