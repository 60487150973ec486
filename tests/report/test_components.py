"""Sentences on the parts of a state: confirmed, refuted, and not decided, with the layers that differ."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from component_results import component_probes, predictability

from depthscope.report.components import domain_expected, novelty_surprises, token_novel

UP, DOWN, NONE = (0.2,) * 5, (-0.2,) * 5, (0.01, -0.01, 0.0, 0.01, -0.02)


@pytest.mark.parametrize(
    ("domain", "decided", "sentence"),
    [
        (UP, True, "The predictable part says more of the domain than the novel part, by 0.200 of macro F1 on average, "
                   "at each of 5 layers."),
        (DOWN, True, "The novel part says more of the domain, by 0.200 of macro F1 on average, at each of 5 layers: "
                     "the opposite of what was expected."),
        (NONE, False, "Not decided: the interval of the mean difference over layers holds 0."),
        ((0.4, 0.4, 0.4, 0.0, -0.2), True, "The predictable part says more of the domain than the novel part, by 0.200 "
         "of macro F1 on average (the reverse at layer 29; open at layer 22)."),
    ],
)  # fmt: skip
def test_the_domain_is_confirmed_refuted_or_open(
    domain: Sequence[float], decided: bool, sentence: str
) -> None:
    found = domain_expected({"component_probes": component_probes(domain=domain)})
    assert (found.sentence, found.decided) == (sentence, decided)
    assert "layer 29: " in found.because
    assert "n = 40" in found.because


@pytest.mark.parametrize(
    ("token", "decided", "first"),
    [
        (DOWN, True, "The novel part says more of the kind of token, by 0.200"),
        (UP, True, "The predictable part says more of the kind of token, by 0.200"),
        (NONE, False, "Not decided"),
    ],
)
def test_the_kind_of_token_is_judged_the_other_way_round(
    token: Sequence[float], decided: bool, first: str
) -> None:
    found = token_novel({"component_probes": component_probes(token=token)})
    assert found.sentence.startswith(first)
    assert found.decided == decided


@pytest.mark.parametrize(
    ("correlation", "spread", "sentence"),
    [
        (0.3, 0.05, "It is longer where the token surprises at layer 0, 7, 15, 22, 29."),
        (-0.3, 0.05, "It is shorter where the token surprises at layer 0, 7, 15, 22, 29."),
        (0.02, 0.05, "Not decided: every interval of the correlation holds 0."),
    ],
)
def test_novelty_follows_surprisal_or_not(correlation: float, spread: float, sentence: str) -> None:
    found = novelty_surprises({"predictability": predictability(correlation, spread)})
    assert found.sentence == sentence
    assert found.decided == ("Not" not in sentence)
