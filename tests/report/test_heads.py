"""Sentences on induction and retrieval heads: decided, decided the other way, and not decided."""

from __future__ import annotations

import pytest
from synthetic_heads import induction_ablation, induction_heads, retrieval_ablation

from depthscope.report.heads import copies_context, induction_needed, retrieval_needed
from depthscope.report.sentence import Verdict


def copies(**given: float) -> Verdict:
    return copies_context({"induction_heads": induction_heads(**given)})


def test_a_model_that_repeats_says_so_and_names_its_heads() -> None:
    found = copies()
    assert found.decided
    assert found.sentence == (
        "Random tokens cost 9.0 nats less the second time; 1 head looks at what followed the last time: L7H2."
    )


def test_a_model_may_repeat_without_a_strong_head() -> None:
    assert copies(strong=0.3).sentence.endswith(
        "no head has more than 0.5 of its mass on what followed the last time."
    )


def test_no_gain_from_a_second_copy_decides_nothing() -> None:
    found = copies(second=11.9)
    assert (found.decided, found.sentence) == (
        False,
        "Not decided: a random token is predicted no better the second time.",
    )


def test_induction_heads_that_matter_are_told_from_random_ones() -> None:
    found = induction_needed({"induction_ablation": induction_ablation()})
    assert found.decided
    assert found.sentence == (
        "Without its 5 strongest induction heads the model loses 5.00 nats on what it has seen before; 5 random heads "
        "cost 0.10. Previous-token heads cost more still."
    )


@pytest.mark.parametrize("changed", [{"rise": 0.02}, {"rise": -0.5}, {"control": 1.0}])
def test_a_rise_like_that_of_random_heads_decides_nothing(changed: dict[str, float]) -> None:
    assert not induction_needed({"induction_ablation": induction_ablation(**changed)}).decided


@pytest.mark.parametrize(
    ("changed", "decided", "words"),
    [
        ({}, True, "recalls at least 40 points fewer"),
        ({"margin": -0.1}, True, "costs no more than the controls"),
        ({"spread": 1.2}, False, "Not decided: the margin over some control may be zero."),
    ],
)
def test_the_margin_over_all_controls_decides(changed: dict[str, float], decided: bool, words: str) -> None:
    found = retrieval_needed({"retrieval_ablation": retrieval_ablation(**changed)})
    assert words in found.sentence
    assert found.decided == decided
