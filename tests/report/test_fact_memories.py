"""Sentences on memories of facts: decided both ways, and not decided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fact_memory_results import fact_memory

from depthscope.report.fact_memories import facts_hit, makes_up_after_a_miss
from depthscope.report.sentence import Verdict
from depthscope.results.result import Result

NONE = float("nan")


@pytest.mark.parametrize(
    ("rule", "found", "decided", "words"),
    [
        (facts_hit, fact_memory(), True, "60% of the facts it knows hit one at the prompt's end, 10%"),
        (facts_hit, fact_memory(), True, "loses 20 points more"),
        (facts_hit, fact_memory(drop=0.0), True, "but the answer does not lose more"),
        (facts_hit, fact_memory(known=0.1, none=0.5), True, "no more often"),
        (facts_hit, fact_memory(known=0.5, none=0.5), False, "overlap"),
        (facts_hit, fact_memory(known=NONE), False, "made up without"),
        (makes_up_after_a_miss, fact_memory(), True, "30 points fewer hits"),
        (makes_up_after_a_miss, fact_memory(equal=-0.2), True, "invented names hit more often"),
        (makes_up_after_a_miss, fact_memory(equal=0.0), False, "about as often"),
        (makes_up_after_a_miss, fact_memory(equal=NONE), False, "made up without"),
    ],
)
def test_what_is_said_follows_the_numbers(
    rule: Callable[[dict[str, Result]], Verdict], found: Result, decided: bool, words: str
):
    said = rule({found.analysis: found})
    assert (said.decided, words in said.sentence) == (decided, True), said.sentence
