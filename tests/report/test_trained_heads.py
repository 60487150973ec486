"""Sentences on gates and registers: decided, and not decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from trained_results import duo_gates, explicit_bias, image_registers, iteration_transfer, registers

from depthscope.report.sentence import Verdict
from depthscope.report.trained_heads import (
    gates_part,
    pairs_take_over,
    patches_gather,
    registers_take_over,
    task_carries_over,
)
from depthscope.results.result import Findings, Result

Rule = Callable[[dict[str, Result]], Verdict]


def without(found: Result, *names: str) -> Result:
    kept = {name: m for name, m in found.findings.measurements.items() if name not in names}
    return replace(found, findings=Findings(kept))


@pytest.mark.parametrize(
    ("rule", "result", "decided", "words"),
    [
        (gates_part, duo_gates(), True, "12 of 40 key-value heads keep all their keys"),
        (gates_part, duo_gates(full=1.0), False, "no gate has closed"),
        (gates_part, duo_gates(between=0.5), False, "50% of the gates are neither open nor closed"),
        (gates_part, without(duo_gates(), "share_full"), False, "no gate was trained"),
        (registers_take_over, registers(), True, "2.0 times an even share without registers and 0.9 times"),
        (registers_take_over, registers(bare=0.8), True, "get no more than an even share"),
        (registers_take_over, registers(tells=0.1), True, "tell the class no better"),
        (registers_take_over, registers(bare=1.02), False, "get no more than an even share"),
        (registers_take_over, registers(register=0.5), False, "hardly changes"),
        (task_carries_over, iteration_transfer(), True, "95% of the longest sequences are right after"),
        (task_carries_over, iteration_transfer(0.1, 0.9), True, "It hinders"),
        (task_carries_over, iteration_transfer(0.5, 0.5), False, "about as often"),
        (
            pairs_take_over,
            explicit_bias(),
            True,
            "with pairs at most 5%, and a head's own key gets up to 80%",
        ),
        (pairs_take_over, explicit_bias(left=0.7), True, "still gives the first token 70%"),
        (pairs_take_over, explicit_bias(plain=0.1), True, "no head rests on the first token"),
        (pairs_take_over, explicit_bias(plain=0.3), False, "Nothing to free"),
        (pairs_take_over, explicit_bias(own=0.1), False, "finds no other place"),
        (patches_gather, image_registers(), True, "60% of the cases, other patches in 30%"),
        (patches_gather, image_registers(tells=0.1), True, "worse than others"),
        (patches_gather, image_registers(bare=0.5), True, "at no layer"),
        (patches_gather, image_registers(bare=1.0), False, "near an even share"),
        (patches_gather, image_registers(tells=0.3), False, "about as well"),
    ],
)
def test_what_is_said_follows_the_numbers(rule: Rule, result: Result, decided: bool, words: str):
    said = rule({result.analysis: result})
    assert said.decided is decided
    assert words in said.sentence
