"""Function texts: a planted vector answers where its letter stands as far back as in its prompts, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from planted_tasks import VECTORS, observed, tasked, vectors_of, written

from depthscope.analyses.function_texts import FunctionTexts, occurs
from depthscope.errors import BadInput, Refused
from depthscope.materials.function_texts import sentences_of, suited
from depthscope.results.result import Findings
from depthscope.runtime.tiny import tiny

PAIRS = [(x, chr(ord(x) + 1)) for x in "fhjlp"]


def beginnings(folder: Path, *texts: str) -> str:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "tokens": 1}) + "\n" for text in texts))
    return str(path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("texts")
    pairs = {"after": PAIRS, "unsolved": PAIRS}
    source = written(folder, pairs)
    # the letter stands four tokens before the end, then five
    texts = beginnings(folder, "no {input} ate", "no {input} at a")
    given = vectors_of(source, pairs, {"after": VECTORS["last_next"]}, unsolved=PAIRS[:1])
    return observed(tasked(), FunctionTexts(source, texts=texts, words=3), given)


def test_the_vector_answers_in_one_of_two_sentences_and_nothing_else_in_any(found: Findings):
    hit = found.measurements["hit"]
    assert hit.select(task="after").value.tolist() == [0.5, 0, 0]
    assert hit.select(task="after").n.tolist() == [3, 3, 3], "three words, each in two sentences"
    assert hit.select(task="after").n_items.tolist() == [6, 6, 6]
    assert found.measurements["hit_mean"].value.tolist() == [0.5, 0, 0]
    assert found.measurements["hit_ahead"].value.tolist() == [0, 0.5, 0.5]


def test_a_task_without_a_vector_is_not_asked_and_says_so(found: Findings):
    assert np.isnan(found.measurements["hit"].select(task="unsolved").value).all()
    assert "not solved in context" in found.measurements["hit"].missing
    assert "unsolved" in found.notes[0]


def test_what_was_written_is_kept(found: Findings):
    texts = found.examples["texts"].columns
    assert texts["text"].tolist()[:2] == ["no h ate", "no h at a"], (
        "the first query is not solved with examples"
    )
    assert texts["answer"].tolist() == ["i", "i", "k", "k", "m", "m"]
    assert [text.strip() for text in texts["vector"].tolist()[::2]] == ["i", "k", "m"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [(" is cats.", True), ("Cats", False), ("catsup", False), ("cats", True), ("9cats", False)],
)
def test_an_answer_occurs_as_a_whole_word_only(text: str, whole: bool):
    assert occurs("cats", text) == whole
    assert occurs("c.", "c. d")
    assert not occurs("c.", "ca d")


def test_sentences_that_name_a_task_are_for_that_task_only():
    every = sentences_of()
    assert all("country_capital" in one.tasks for one in suited(every, "country_capital"))
    assert all(not one.tasks for one in suited(every, "antonym"))
    assert {one.tokens for one in suited(every, "antonym")} == {5}
    assert suited(every, "antonym")[0].about("hot").count("hot") == 1


def test_wrong_parameters_texts_and_models_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="words=0"):
        FunctionTexts(words=0)
    with pytest.raises(Refused, match="no answer follows a prompt"):
        FunctionTexts().needs(tiny("bert").anatomy)
    with pytest.raises(BadInput, match=r"row 2 has 0 places"):
        sentences_of(beginnings(tmp_path, "a {input}", "nothing"))
