"""A task sheet is read as it is written, and whatever is wrong in it is named with its place and what to give."""

from __future__ import annotations

from pathlib import Path

import pytest
import sheets

from depthscope.advise.decision.flags import flagged, proposed
from depthscope.advise.decision.matters import matters, noticed
from depthscope.advise.decision.sheet import load_sheet, step_number
from depthscope.errors import BadInput, DepthscopeError, UnknownName


def test_a_sheet_is_read_with_its_defaults(tmp_path: Path) -> None:
    sheet = load_sheet(sheets.write(tmp_path))
    assert (sheet.model, sheet.stop_after, sheet.seed, sheet.prices.per_hour) == ("tiny-llama", 8, 0, 2.0)
    assert [(t.name, t.criticality, t.allowed_drop) for t in sheet.tasks] == [
        ("sorting", "B", 0.02),
        ("sums", "A", 0.01),
    ]
    assert sheet.tasks[0].file == tmp_path / "sorting.jsonl"


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ('model = "tiny-llama"', "", BadInput, "has no model"),
        ("ladder = [10]", "ladder = 10", BadInput, "give a list"),
        ("ladder = [10]", "ladder = [95]", BadInput, "from 0.1 to 90"),
        ("tokens = 512", "tokens = 0", BadInput, "1 or more"),
        ("tokens = 512", "tokens = 2.5", BadInput, "whole number"),
        ("tokens = 512", "tokns = 256", UnknownName, "did you mean 'tokens'"),
        ("tokens = 512", "stop_after = 9", BadInput, "from 1 to 8"),
        ("tokens = 512", 'stop_after = "dept"', UnknownName, "did you mean 'depth'"),
        ('type = "math"', 'type = "maths"', UnknownName, "did you mean 'math'"),
        ('type = "math"', 'type = "choice"', BadInput, "its items in sums.jsonl are math"),
        ('type = "math"', 'type = "math"\nallowed_drop = 0', BadInput, "no number of items"),
        ('type = "math"', 'type = "math"\nallowed_drop = "2"', BadInput, "give a number"),
        ('type = "math"', 'type = "math"\nby = "likelihood"', BadInput, "has no options"),
        ('type = "math"', 'type = "math"\nthreshold = 60', BadInput, "from 0 to 1"),
        ('type = "math"', 'type = "math"\npick = "sum"', UnknownName, "did you mean 'sums'"),
        ('file = "sums.jsonl"', 'file = "sum.jsonl"', BadInput, "there is no file"),
        ('must_pass = ["3"]', 'must_pass = ["33"]', BadInput, "must_pass of 'sums' names 33"),
        ('must_pass = ["3"]', "must_pass = [3]", BadInput, "list of texts"),
        ('name = "sums"', 'name = "sorting"', BadInput, "two entries of one task name"),
        ("min_items = 4", "min_items = 7", BadInput, "needs 7 items"),
        ('currency = "EUR"', "", BadInput, "no currency"),
        ("per_gpu_hour = 2.0", "", BadInput, "give per_gpu_hour or per_1k_tokens"),
        ("[prices]", "[risks]\ndates = 1\n[prices]", BadInput, "true or false"),
        ("[prices]", "[prices", BadInput, "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, old: str, new: str, error: type[DepthscopeError], said: str
) -> None:
    assert old in sheets.SHEET
    path = sheets.write(tmp_path, sheets.SHEET.replace(old, new))
    with pytest.raises(error, match=said):
        matters(load_sheet(path))


def test_a_sheet_without_tasks_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text('model = "tiny-llama"', encoding="utf-8")
    with pytest.raises(BadInput, match="names no task"):
        load_sheet(tmp_path / "empty.toml")
    with pytest.raises(BadInput, match="cannot be read"):
        load_sheet(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(BadInput, match="not UTF-8"):
        load_sheet(tmp_path / "latin.toml")


def test_items_without_answers_are_refused(tmp_path: Path) -> None:
    path = sheets.write(tmp_path, sums=[{"task": "sums", "kind": "math", "prompt": "1 + 1 ="}] * 4)
    with pytest.raises(BadInput, match="has no answer"):
        matters(load_sheet(path))


def test_a_file_of_two_tasks_needs_a_pick(tmp_path: Path) -> None:
    rows = [
        {"task": t, "kind": "math", "id": str(k), "prompt": "1 + 1 =", "answer": 2}
        for t in "ab"
        for k in range(4)
    ]
    with pytest.raises(BadInput, match="holds the tasks a, b"):
        matters(load_sheet(sheets.write(tmp_path, sums=rows)))  # pyright: ignore[reportArgumentType]


def test_steps_have_numbers_and_names() -> None:
    assert (step_number("3"), step_number("rollout")) == (3, 8)
    with pytest.raises(BadInput, match="no step 0"):
        step_number("0")


def test_halves_share_no_item_and_hold_all(tmp_path: Path) -> None:
    for found in matters(load_sheet(sheets.write(tmp_path))):
        assert not found.choosing & found.judging
        assert found.choosing | found.judging == {item.id for item in found.task.items}


def test_a_person_is_asked_about_what_was_guessed(tmp_path: Path) -> None:
    said = noticed([found.line for found in matters(load_sheet(sheets.write(tmp_path)))])
    assert [one.key for one in said] == ["sheet.flagged", "sheet.few", "sheet.few"]
    assert said[0].slots == {"items": 12, "math": 6, "multi_hop": 0}
    assert said[2].slots["needed"] == 1920  # 3.84 x 0.05 / 0.01^2


@pytest.mark.parametrize(
    ("prompt", "answer", "math", "hops"),
    [
        ("12 + 30 =", "42", True, False),
        ("Solve x = 3", "", True, False),
        ("How many days are 3 weeks?", "21", True, False),
        ("A shirt costs $20 and trousers $35. What is the total?", "55", True, False),
        ("りんごが3個、みかんが4個。合計はいくつ?", "7", True, False),
        ("| a | 3 |\n| b | 4 | total", "", True, False),
        (r"Compute \frac{1}{2} of the cake", "", True, False),
        ("The capital of France is", "Paris", False, False),
        ("Order 4711 has not arrived.", "delivery", False, False),
        ("In 1999 she moved. Where does she live?", "Rome", False, False),
        ("The mother of the author of Emma is", "Cassandra", False, True),
        ("well-known - and loved", "", False, False),
    ],
)
def test_arithmetic_and_chains_of_facts_are_recognised(
    prompt: str, answer: str, math: bool, hops: bool
) -> None:
    found = flagged(prompt, answer)
    assert (found.math, found.multi_hop) == (math, hops)


def test_criticality_is_proposed_with_its_reason() -> None:
    assert proposed("choice", 10.0, 10.0, True, False) == ("A", "regulated")
    assert proposed("choice", 10.0, 10.0, False, True) == ("A", "must_pass")
    assert proposed("math", 10.0, 10.0, False, False) == ("A", "math")
    assert proposed("choice", 9.0, 1000.0, False, False) == ("C", "volume")
    assert proposed("choice", 10.0, 1000.0, False, False) == ("B", "default")
