"""Prompts with gold answers: where answer tokens are predicted, what is left out, and which rows are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.answered import AnsweredPrompts
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama")


def source(tmp_path: Path, *rows: object) -> str:
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_marks_predict_each_answer_token_and_the_last_one_is_not_read(tmp_path: Path) -> None:
    path = source(tmp_path, {"prompt": "1 + 2 =", "answer": "345"})
    (window,) = AnsweredPrompts(path).windows(MODEL, 0).items
    said = MODEL.tokenizer.encode("1 + 2 = 345")
    assert list(window.ids) == said[:-1]
    assert window.about["gold"] == said[-3:]
    assert [said[p + 1] for p in window.marks] == said[-3:]
    assert window.marks[-1] == len(window.ids) - 1


def test_tasks_take_turns_and_the_limit_cuts_them_alike(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{k}", "answer": "a", "task": "ab"[k > 2]} for k in range(5)]
    found = AnsweredPrompts(source(tmp_path, *rows), limit=4).windows(MODEL, 0)
    assert [w.about["prompt"] for w in found.items] == ["p0", "p3", "p1", "p4"]
    assert [w.index for w in found.items] == [0, 1, 2, 3]
    assert found.source == "asked.jsonl, 4 of 5 prompts"


def test_numbers_of_several_tokens_are_one_operand() -> None:
    from depthscope.materials.answered import _numbers

    assert _numbers(["5", " +", " ", "1", "2", " 3", " ="]) == [[0], [3, 4], [5]]


@pytest.mark.parametrize("row", [{"prompt": "a", "answer": " "}, {"prompt": "a", "answer": None}])
def test_a_prompt_without_an_answer_is_named(tmp_path: Path, row: dict) -> None:
    with pytest.raises(BadInput, match=r"row 2 has the answer .* needs a gold answer"):
        AnsweredPrompts(source(tmp_path, {"prompt": "a", "answer": 1}, row)).windows(MODEL, 0)


def test_a_row_without_the_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="row 1 has no 'answer'"):
        AnsweredPrompts(source(tmp_path, {"prompt": "a"})).windows(MODEL, 0)


def test_prompts_that_are_too_long_leave_nothing_to_read(tmp_path: Path) -> None:
    path = source(tmp_path, {"prompt": "a" * 200, "answer": "b"})
    with pytest.raises(EmptyMaterial, match="more than 128"):
        AnsweredPrompts(path, longest=1000).windows(MODEL, 0)


def test_the_packaged_prompts_hold_two_tasks_of_right_answers() -> None:
    found = AnsweredPrompts().windows(MODEL, 0).items
    assert {w.about["task"] for w in found} == {"arithmetic", "two_hop"}
    for window in found:
        if window.about["task"] == "arithmetic":
            terms = [int(n) for n in window.about["prompt"].rstrip(" =").split("+")]
            assert (sum(terms), len(terms)) == (int(window.about["answer"]), window.about["level"])
