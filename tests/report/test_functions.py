"""Verdicts on vectors and iteration heads: each can say yes, no or not decided, and says what it rests on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from function_results import ENDS, function_vectors, iteration_heads
from grammar_results import made

from depthscope.report.functions import iteration_head_works, vector_does_tasks
from depthscope.results.result import Findings, Result


def with_value(found: Result, name: str, value: np.ndarray) -> dict[str, Result]:
    old = found[name]
    new = made(name, old.axes, value)
    kept = {**found.findings.measurements, name: new}
    return {found.analysis: replace(found, findings=Findings(kept))}


def test_a_vector_ahead_of_every_null_does_the_tasks():
    said = vector_does_tasks({"function_vectors": function_vectors()})
    assert said.decided
    assert "right answer to 60% of the queries" in said.sentence
    assert "the mean state of the layer does less, 20% fewer" in said.sentence
    assert "ahead of random heads by 0.6" in said.because


def test_a_vector_no_better_than_a_null_decides_nothing():
    said = vector_does_tasks({"function_vectors": function_vectors(lead=0.03)})
    assert not said.decided
    assert "not ahead of every null" in said.sentence


def test_without_enough_solved_tasks_nothing_is_said_of_vectors():
    found = function_vectors()
    said = vector_does_tasks(with_value(found, "accuracy_mean", np.full(len(ENDS), np.nan)))
    assert not said.decided
    assert "tasks are solved in context, 3 are needed" in said.sentence


@pytest.mark.parametrize(
    ("stripe", "accuracy", "without", "decided", "words"),
    [
        (0.98, 0.99, 0.02, True, "Yes: layer 1 head 3 looks at the input of the step in 98% of the rows"),
        (0.10, 0.99, 0.02, True, "worked through all the same, by another circuit"),
        (0.10, 0.30, 0.02, True, "No: no head looks at the input"),
        (0.98, 0.99, 0.90, False, "do not all pass their thresholds"),
        (0.98, 0.40, 0.02, False, "do not all pass their thresholds"),
        (0.98, 0.99, np.nan, False, "no head was ablated"),
    ],
)
def test_only_stripe_accuracy_and_ablation_together_show_an_iteration_head(
    stripe: float, accuracy: float, without: float, decided: bool, words: str
):
    said = iteration_head_works({"iteration_heads": iteration_heads(stripe, accuracy, without)})
    assert (said.decided, words in said.sentence) == (decided, True), said.sentence
