"""Needles stand where they are said to stand, and what follows the prompt is their answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from depthscope.errors import BadInput, UnknownName
from depthscope.materials.needles import Needle, Needles, cut
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama", torch.float32, max_position_embeddings=1024)
ROWS = [
    {"needle": "He ate cold plums.", "question": "What did he eat?", "answer": "cold plums"},
    {
        "question": "Why is Mr Green disliked?",
        "needle": "Mr Green is disliked because he is mean.",
        "real_needle": "Because he is mean.",
    },
]


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "needles.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return str(path)


@pytest.fixture
def hay(tmp_path: Path) -> str:
    path = tmp_path / "hay.txt"
    path.write_text("One two three. Four five six. " * 20)
    return str(path)


def test_the_span_holds_the_answer_and_the_marks_predict_it(source: str, hay: str) -> None:
    found = Needles(source, hay, lengths=(80, 120), depths=(0.0, 0.5, 1.0)).windows(MODEL, 0)
    assert len(found.items) == 2 * 2 * 3
    for window in found.items:
        about, ids = window.about, window.ids
        start, stop = about["span"]
        assert list(ids[start:stop]) == about["gold"] == list(ids[about["prompt"] :])
        assert [ids[m + 1] for m in window.marks] == about["gold"]
        assert about["queries"] == list(window.marks)
        text = "".join(chr(i) for i in MODEL.tokenizer.encode(about["answer"]))
        assert len(text) == len(about["gold"])
    assert found.documents == ("needle-000", "needle-001")


def test_the_prompt_has_the_length_that_was_asked_for_before_its_question(source: str, hay: str) -> None:
    (window,) = Needles(source, hay, lengths=(100,), depths=(0.5,), limit=1).windows(MODEL, 0).items
    question = len("\n\nQuestion: What did he eat?\nAnswer:") + len(" He ate ")
    assert window.about["prompt"] == 100 + question


def test_a_depth_is_moved_back_to_the_end_of_a_sentence() -> None:
    sentences = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    assert cut(sentences, 9, 0.5) == ([1, 2, 3], [4, 5, 6, 7, 8, 9])
    assert cut(sentences, 9, 5 / 9) == ([1, 2, 3, 4, 5], [6, 7, 8, 9])
    assert cut(sentences, 7, 1.0) == ([1, 2, 3, 4, 5, 6, 7], [])
    assert cut(sentences, 7, 0.1) == ([], [1, 2, 3, 4, 5, 6, 7])


def test_halves_of_a_file_share_no_needle() -> None:
    even, odd, every = (Needles(part=part).needles() for part in ("even", "odd", "all"))
    assert {k for k, _ in even} | {k for k, _ in odd} == {k for k, _ in every}
    assert not {k for k, _ in even} & {k for k, _ in odd}
    assert len(every) == 16


def test_every_packaged_needle_ends_with_its_answer_and_holds_no_digit() -> None:
    for _, needle in Needles().needles():
        assert not any(character.isdigit() for character in needle.answer)
        assert 5 <= len(needle.answer.split()) <= 12
        assert len(needle.opening.split()) >= 3


def test_an_answer_is_found_whatever_its_capitals() -> None:
    found = Needle.of("row", ROWS[1])
    assert (found.opening, found.answer) == ("Mr Green is disliked", "because he is mean")


def test_blocks_for_echo_follow_the_needles(source: str, hay: str) -> None:
    found = Needles(source, hay, lengths=(80,), depths=(0.5,), echo=5, echoes=2).windows(MODEL, 0)
    assert [w.about["kind"] for w in found.items] == ["needle"] * 2 + ["repeat"] * 2
    assert [w.index for w in found.items] == [0, 1, 2, 3]
    assert found.items[-1].about["copies"] == 4


def test_what_does_not_fit_is_refused(source: str, hay: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has 19 tokens, the haystack 10"):
        Needles(source, hay, lengths=(10,)).windows(MODEL, 0)
    with pytest.raises(BadInput, match="too short for a haystack of 5000"):
        Needles(source, hay, lengths=(5000,)).windows(MODEL, 0)
    with pytest.raises(BadInput, match="takes 174 positions, tiny-llama has 128"):
        Needles(source, hay, lengths=(120,)).windows(tiny("llama", torch.float32), 0)
    lost = tmp_path / "lost.jsonl"
    lost.write_text(json.dumps({"needle": "He ate plums.", "question": "?", "answer": "pears"}))
    with pytest.raises(BadInput, match="must hold the answer 'pears' word for word"):
        Needles(str(lost), hay).windows(MODEL, 0)
    with pytest.raises(UnknownName, match="value of part 'third'; known: all, even, odd"):
        Needles(part="third")
    with pytest.raises(BadInput, match="shares of the haystack"):
        Needles(depths=(1.5,))
