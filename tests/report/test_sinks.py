"""Sentences on sinks, massive entries and caches: decided both ways, and not decided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sink_results import attention_sinks, massive_activations, streaming_cache

from depthscope.report import sinks
from depthscope.report.sentence import Verdict
from depthscope.results.result import Result

Rule = Callable[[dict[str, Result]], Verdict]


@pytest.mark.parametrize(
    ("rule", "result", "decided", "words"),
    [
        (sinks.heads_rest, attention_sinks(0.8), True, "with a start token most do (80% of the heads)"),
        (sinks.heads_rest, attention_sinks(0.1), True, "without one few do (10% of the heads)"),
        (sinks.heads_rest, attention_sinks(0.5), False, "may be above or below one half"),
        (
            sinks.massive_are_constants,
            massive_activations(),
            True,
            "only as constants: zeroed they cost 4.00",
        ),
        (sinks.massive_are_constants, massive_activations(4, 3), True, "at their mean they still cost 3.00"),
        (sinks.massive_are_constants, massive_activations(4, 0.4), False, "too uncertain"),
        (sinks.massive_are_constants, massive_activations(0, 0), False, "may cost nothing"),
        (sinks.massive_are_constants, massive_activations(float("nan")), False, "no edited text"),
        (sinks.first_keys_needed, streaming_cache(), True, "with 4 first keys among them 0.03"),
        (sinks.first_keys_needed, streaming_cache(0.03, 0.8), True, "make it worse"),
        (sinks.first_keys_needed, streaming_cache(0.5, 0.5), False, "overlap"),
    ],
)
def test_what_is_said_follows_the_numbers(rule: Rule, result: Result, decided: bool, words: str):
    said = rule({result.analysis: result})
    assert said.decided is decided
    assert words in said.sentence
