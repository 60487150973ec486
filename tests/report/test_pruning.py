"""The verdict on the rule of the deepest layers can say no, yes, and that it is not decided."""

from __future__ import annotations

import re

import pytest
from synthetic import pruning_criteria, pruning_damage

from depthscope.report.pruning import deepest_may_go
from depthscope.report.verdict import RULES


@pytest.mark.parametrize(
    ("deepest", "influence", "decided", "words"),
    [
        (
            4.0,
            0.2,
            True,
            "By loss, no: with 1 of 12 layers gone, the least influential are the cheaper choice",
        ),
        (
            0.1,
            0.9,
            True,
            r"By loss, yes: .* the deepest are the cheaper choice \(\+0.10 against \+0.90 nats\)",
        ),
        (0.2, 0.2, False, "Not decided: both removals cost about the same"),
    ],
)
def test_the_deepest_layers_are_judged_by_the_intervals(
    deepest: float, influence: float, decided: bool, words: str
) -> None:
    results = {"pruning_damage": pruning_damage(deepest, influence), "pruning_criteria": pruning_criteria()}
    verdict = deepest_may_go(results)
    assert verdict.decided is decided
    assert re.search(words, verdict.sentence), verdict.sentence
    if decided:
        assert "95 % interval" in verdict.because


def test_the_rule_stands_in_the_box() -> None:
    assert ("pruning_damage", deepest_may_go) in RULES
