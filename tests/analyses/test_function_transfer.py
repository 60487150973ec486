"""Function transfer: planted vectors do their own task only, their sum does a fourth one, words alone do none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import planted_tasks
import pytest
from planted_tasks import VECTORS, lists, observed, tasked, vectors_of, written

from depthscope.analyses.function_transfer import FunctionTransfer
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.results.result import Findings
from depthscope.runtime.tiny import tiny

SQUARE = "first_next + last - first = last_next"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    source = written(tmp_path_factory.mktemp("lists"), lists())
    given = vectors_of(source, lists(), VECTORS, unsolved=lists()["last_next"][:2])
    return observed(tasked(), FunctionTransfer(source, squares=(SQUARE,), steps=40), given)


def test_every_planted_vector_does_its_own_task_and_no_other(found: Findings):
    np.testing.assert_array_equal(found.measurements["transfer"].value, np.eye(4))
    assert found.measurements["transfer"].n.tolist()[3] == [2] * 4, (
        "two queries of the last task are not solved"
    )


def test_the_sum_of_two_vectors_without_a_third_does_the_fourth_task(found: Findings):
    composed = found.measurements["composition"]
    assert composed.select(task="last_next").value.tolist() == pytest.approx([2 / 4, 1, 1, 0])
    assert composed.select(task="last_next").n.tolist() == [4] * 4
    assert np.isnan(composed.value[:3]).all(), "no square leads to the other tasks"
    assert "no square of tasks" in composed.missing


def test_a_vector_rebuilt_from_its_words_says_the_same_and_does_nothing(found: Findings):
    accuracy = found.measurements["accuracy"]
    assert accuracy.select(variant="vector").value.tolist() == [1, 1, 1, 1]
    for other in ("rebuilt", "random direction", "nothing"):
        assert accuracy.select(variant=other).value.tolist() == [0, 0, 0, 0]
    assert found.measurements["said_difference"].value.max() < 1e-2
    assert np.abs(found.measurements["rebuilt_cosine"].value).max() < 0.5


def test_the_lead_of_vectors_is_over_tasks(found: Findings):
    ahead = found.measurements["vector_ahead"]
    assert dict(zip(ahead.axes["variant"].tolist(), ahead.value.tolist(), strict=True)) == {
        "other tasks": 1, "composed": 0, "rebuilt": 1, "random direction": 1, "nothing": 1,
    }  # fmt: skip
    assert ahead.n.tolist() == [4, 1, 4, 4, 4]


def test_a_vector_that_says_nothing_finds_answers_as_likely_as_all_tokens(found: Findings):
    # the planted vectors lie where the unembedding does not look: all 64 tokens are equally likely
    said = found.measurements["answers_said"].value
    np.testing.assert_allclose(said, 4 / 64, rtol=1e-9)
    decoded = found.examples["decoded"].columns
    np.testing.assert_allclose(decoded["probability"], 1 / 64, rtol=1e-9)
    assert decoded["task"].tolist().count("last") == 10


def test_a_task_without_a_vector_has_no_numbers_and_can_still_be_composed(tmp_path: Path):
    source = written(tmp_path, lists())
    three = {name: VECTORS[name] for name in ("first", "last", "first_next")}
    given = vectors_of(source, lists(), three)
    found = observed(tasked(), FunctionTransfer(source, squares=(SQUARE,), steps=1), given)
    assert np.isnan(found.measurements["answers_said"].value[3])
    assert "not solved in context" in found.measurements["answers_said"].missing
    assert np.isnan(found.measurements["transfer"].value[:, 3]).all()
    assert "not solved in context" in found.measurements["transfer"].missing
    assert "last_next" in found.notes[0]
    last = found.measurements["composition"].select(task="last_next").value
    np.testing.assert_array_equal(last, [1, np.nan, 1, 0])


def test_a_sum_is_added_where_it_works_wherever_its_parts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(planted_tasks, "STATE", 4)  # above the layer that reads vectors
    source = written(tmp_path, lists())
    given = vectors_of(source, lists(), VECTORS)
    found = observed(tasked(), FunctionTransfer(source, ("last_next",), squares=(SQUARE,), steps=1), given)
    assert found.measurements["composition"].select(task="last_next").value.tolist() == [1, 0, 1, 0]


def test_wrong_parameters_tasks_and_models_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="write AD"):
        FunctionTransfer(squares=("a+b=c",))
    with pytest.raises(BadInput, match="words=1"):
        FunctionTransfer(words=1)
    with pytest.raises(Refused, match="no answer follows a prompt"):
        FunctionTransfer().needs(tiny("bert").anatomy)
    source = written(tmp_path, lists())
    with pytest.raises(BadInput, match="give both the same source"):
        observed(tasked(), FunctionTransfer(source), vectors_of("", lists(), VECTORS))
    given = vectors_of(source, lists(), VECTORS)["function_vectors"]
    old = replace(given, findings=replace(given.findings, examples={}))
    with pytest.raises(BadInput, match="names no queries"):
        observed(tasked(), FunctionTransfer(source), {"function_vectors": old})
    with pytest.raises(UnknownName, match="'last'"):
        observed(
            tasked(),
            FunctionTransfer(source, tasks=("last",)),
            vectors_of(source, {"first": [("ab", "a")]}, VECTORS),
        )
