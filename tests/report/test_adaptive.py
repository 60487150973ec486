"""Verdicts on adaptive compute and on a shortened model can say yes, no, and that nothing is decided."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from synthetic import adaptive_compute, prune

from depthscope.report.adaptive import tokens_differ
from depthscope.report.shortened import tasks_kept
from depthscope.report.verdict import RULES
from depthscope.results.result import Findings


@pytest.mark.parametrize(
    ("early", "deep", "spread", "decided", "words"),
    [
        (0.3, 0.2, 0.1, True, "^Yes, as this lens sees it: 30% .* 20% only in its last part"),
        (
            0.01,
            0.6,
            0.1,
            True,
            r"^Hardly any prediction is nearly final in the first half of the depth \(1.0%\)",
        ),
        (0.6, 0.01, 0.1, True, r"^Hardly any prediction needs the last part of the depth \(1.0%\)"),
        (0.06, 0.3, 0.5, False, "^Not decided"),
    ],
)
def test_whether_tokens_differ_follows_both_intervals(
    early: float, deep: float, spread: float, decided: bool, words: str
) -> None:
    verdict = tokens_differ({"adaptive_compute": adaptive_compute(early, deep, spread)})
    assert verdict.decided is decided
    assert re.search(words, verdict.sentence), verdict.sentence
    assert verdict.because.count("95 % interval") == 2


@pytest.mark.parametrize(
    ("facts", "sums", "decided", "words"),
    [
        (
            (-0.02, 0.02),
            (-0.5, -0.3),
            True,
            "^Without 2 layers, no: more is lost than may be on sums by generation",
        ),
        ((-0.02, 0.02), (-0.04, 0.01), True, "^Without 2 layers, yes: every task stays within its margin"),
        ((-0.02, 0.02), (-0.2, 0.1), False, "^Not decided: too few items for sums by generation"),
    ],
)
def test_whether_tasks_are_kept_follows_the_intervals_and_the_margin(
    facts: tuple[float, float], sums: tuple[float, float], decided: bool, words: str
) -> None:
    verdict = tasks_kept({"prune": prune(facts, sums)})
    assert verdict.decided is decided
    assert re.search(words, verdict.sentence), verdict.sentence


def test_without_tasks_nothing_is_decided_about_them() -> None:
    found = prune()
    kept = {n: m for n, m in found.findings.measurements.items() if n not in ("difference", "margin")}
    verdict = tasks_kept({"prune": replace(found, findings=Findings(kept))})
    assert (verdict.decided, verdict.sentence[:12]) == (False, "Not decided:")


def test_both_rules_stand_in_the_box() -> None:
    assert {("adaptive_compute", tokens_differ), ("prune", tasks_kept)} <= set(RULES)
