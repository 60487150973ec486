"""Tasks: what a file may say, what it means where it says nothing, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from depthscope.errors import BadInput, DepthscopeError, UnknownName
from depthscope.materials.tasks import Item, Task, load_tasks, number_in

SUM: dict[str, Any] = {"task": "sums", "kind": "math", "prompt": "1 + 1 =", "answer": 2}
PICK: dict[str, Any] = {
    "task": "pick",
    "kind": "choice",
    "prompt": "Which?",
    "answer": "B",
    "options": ["x", "y"],
}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_rows_become_tasks_with_what_their_kind_has(tmp_path: Path):
    facts = {
        "task": "facts",
        "kind": "short_answer",
        "prompt": "Of France?",
        "answer": ["Paris", "paris city"],
    }
    sums, pick, fact = load_tasks(
        written(tmp_path, SUM, PICK, {**facts, "must_pass": True, "id": "f"}), needed=1
    )
    assert (sums.name, sums.kind, sums.stop, sums.length) == ("sums", "math", "\n\n", 256)
    assert sums.items == (Item("1", "1 + 1 =", ("2",), "number"),)
    assert (pick.items[0].answers, pick.items[0].gold, pick.items[0].scorer) == (("y",), 1, "letter")
    assert fact.items[0] == Item("f", "Of France?", ("Paris", "paris city"), "contains", must_pass=True)


@pytest.mark.parametrize(
    ("rows", "kind", "said"),
    [
        ([{**SUM, "answer": None}], BadInput, r"row 1 has no answer \(None\)"),
        ([{**SUM, "answer": " "}], BadInput, "has no answer"),
        ([{k: v for k, v in SUM.items() if k != "answer"}], BadInput, "has no answer"),
        ([{k: v for k, v in SUM.items() if k != "prompt"}], BadInput, "row 1 has no 'prompt'"),
        ([{**SUM, "prompt": ""}], BadInput, "has no prompt text"),
        ([{**SUM, "kind": "maths"}], UnknownName, "did you mean 'math'"),
        ([{**SUM, "scorer": "numbre"}], UnknownName, "did you mean 'number'"),
        ([{**SUM, "answer": "two"}], BadInput, "needs a number as answer, found 'two'"),
        ([{**SUM, "scorer": "letter"}], BadInput, "'letter' belongs to choices"),
        ([{**PICK, "answer": "z"}], BadInput, "neither an option nor the letter"),
        ([{**PICK, "options": ["x"]}], BadInput, "2 to 26 different options"),
        ([SUM, {**SUM, "kind": "generation"}], BadInput, "differ in kind"),
        ([{**SUM, "id": "a"}, {**SUM, "id": "a"}], BadInput, "two items of 'sums' have the id 'a'"),
        ([{**SUM, "length": -1}], BadInput, "answers of -1 tokens"),
    ],
)
def test_what_cannot_be_scored_is_a_clear_error(
    tmp_path: Path, rows: list[dict[str, Any]], kind: type[DepthscopeError], said: str
):
    with pytest.raises(kind, match=said):
        load_tasks(written(tmp_path, *rows), needed=1)


def test_fewer_items_than_needed_are_refused_by_name(tmp_path: Path):
    with pytest.raises(BadInput, match="a task needs 100 items, sums has 2, pick has 1"):
        load_tasks(written(tmp_path, SUM, SUM, PICK))
    with pytest.raises(BadInput, match="there is no data at"):
        load_tasks(tmp_path / "missing.jsonl")
    with pytest.raises(BadInput, match="the name given is empty"):
        load_tasks("")


def test_halves_share_nothing_and_do_not_depend_on_the_order():
    items = tuple(Item(str(k), "p", ("a",), "exact") for k in range(11))
    task, mixed = Task("t", "short_answer", items), Task("t", "short_answer", items[::-1])
    first, second = task.halves()
    assert (len(first.items), len(second.items)) == (5, 6)
    assert {i.id for i in first.items} | {i.id for i in second.items} == {str(k) for k in range(11)}
    assert {i.id for i in mixed.halves()[0].items} == {i.id for i in first.items}
    assert {i.id for i in task.halves(seed=1)[0].items} != {i.id for i in first.items}


@pytest.mark.parametrize(
    ("text", "number"),
    [("so it is 1,234.5.", 1234.5), ("3 - 5 = -2", -2.0), ("10-7", 7.0), ("\N{MINUS SIGN}4", -4.0), ("none", None),
     ("$ .5", 0.5), ("7, 8", 8.0)],
)  # fmt: skip
def test_the_last_number_of_a_text_is_read(text: str, number: float | None):
    assert number_in(text) == number
