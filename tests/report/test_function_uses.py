"""Verdicts on what function vectors are: each can say yes or not decided, and says what it rests on."""

from __future__ import annotations

import numpy as np
import pytest
from function_results import TASKS, function_offsets, function_reach, function_texts, function_transfer
from grammar_results import made
from test_functions import with_value

from depthscope.report import function_uses as uses


@pytest.mark.parametrize(("other", "decided"), [(0.1, True), (0.58, False)])
def test_a_vector_is_its_task_s_own_where_others_do_less(other: float, decided: bool):
    said = uses.task_of_its_own({"function_transfer": function_transfer(other)})
    assert said.decided == decided
    assert ("50% of the queries ahead" in said.sentence) == decided
    assert "vector_ahead of other tasks" in said.because


@pytest.mark.parametrize(
    ("composed", "decided", "words"),
    [
        (0.5, True, "Yes: the sum does past 50% (in context 80%)"),
        (0.04, True, "No: the sum does past 4%"),
        (0.9, True, "Yes"),
        (np.nan, False, "no square of tasks has three vectors"),
    ],
)
def test_sums_add_up_where_they_do_more_than_nothing(composed: float, decided: bool, words: str):
    said = uses.vectors_add_up({"function_transfer": function_transfer(composed=composed)})
    assert (said.decided, words in said.sentence) == (decided, True), said.sentence


def test_a_sum_between_nothing_and_half_of_the_examples_decides_nothing():
    old = function_transfer(composed=0.35)
    wide = made("composition", old["composition"].axes, old["composition"].value)
    wide = type(wide)(
        wide.name,
        wide.axes,
        wide.value,
        "probability",
        wide.value - 0.4,
        wide.value + 0.4,
        wide.n,
        missing="-",
    )
    kept = type(old.findings)({**old.findings.measurements, "composition": wide})
    said = uses.vectors_add_up({"function_transfer": type(old)(old.analysis, {}, kept, old.text, {})})
    assert not said.decided
    assert "the sum does past 35%" in said.sentence


@pytest.mark.parametrize(("rebuilt", "decided"), [(0.0, True), (0.57, False)])
def test_a_vector_is_more_than_words_where_the_rebuilt_one_does_less(rebuilt: float, decided: bool):
    said = uses.more_than_words({"function_transfer": function_transfer(rebuilt=rebuilt)})
    assert said.decided == decided
    assert ("does 60% of the queries fewer" in said.sentence) == decided


@pytest.mark.parametrize(("hits", "decided"), [(0.3, True), (0.05, False)])
def test_a_vector_works_in_sentences_where_it_is_ahead_of_both_nulls(hits: float, decided: bool):
    said = uses.works_in_texts({"function_texts": function_texts(hits)})
    assert said.decided == decided
    assert "of the texts hold the answer with the vector, 2% without" in said.sentence


@pytest.mark.parametrize(
    ("vector", "closed", "decided", "words"),
    [
        (0.7, 1.0, True, "antonym, where 50% of the words come back"),
        (0.38, 1.0, False, "an offset may do as much"),
        (0.7, 0.0, False, "no task that leads back to its start (past) is solved in context"),
    ],
)
def test_a_way_there_and_back_is_the_vector_s_where_every_offset_does_less(
    vector: float, closed: float, decided: bool, words: str
):
    said = uses.more_than_offsets({"function_offsets": function_offsets(vector, closed)})
    assert (said.decided, words in said.sentence) == (decided, True), said.sentence


@pytest.mark.parametrize(
    ("invented", "known", "decided", "words"),
    [
        (0.5, True, True, "Yes: of invented words it does plural 50% (frequent words 80%)"),
        (0.04, True, True, "No: of invented words it does plural 4%"),
        (0.08, False, False, "no task that follows a rule has a vector"),
    ],
)
def test_a_vector_reaches_invented_words_where_it_does_more_than_nothing(
    invented: float, known: bool, decided: bool, words: str
):
    said = uses.reaches_invented_words({"function_reach": function_reach(invented, known=known)})
    assert (said.decided, words in said.sentence) == (decided, True), said.sentence


def test_a_vector_between_nothing_and_half_of_the_frequent_words_decides_nothing():
    said = uses.reaches_invented_words({"function_reach": function_reach(0.1, frequent=0.2)})
    assert not said.decided
    assert "of invented words it does plural 10%" in said.sentence


def test_without_enough_tasks_nothing_is_said():
    gone = with_value(function_transfer(), "vector_ahead", np.full(len(TASKS) + 1, np.nan))
    for rule in (uses.task_of_its_own, uses.more_than_words):
        said = rule(gone)
        assert not said.decided
        assert "3 are needed" in said.sentence
