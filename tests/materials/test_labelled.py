"""Task files: kinds by columns, items as they stand there, and errors that name the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from depthscope.errors import BadInput, EmptyMaterial, UnknownName
from depthscope.materials.labelled import Item, Labelled, labelled, load_labelled


def written(folder: Path, rows: list[dict[str, Any]], name: str = "task.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def two_classes(n: int) -> list[dict[str, Any]]:
    return [{"text": f"text {k}", "label": k % 2} for k in range(n)]


CASES = [
    ({"text": "a", "label": "x"}, {"text": "b", "label": "y"}, "classification", Item((0,), "x")),
    ({"sentence": "a", "label": 0, "label_name": "no"}, {"sentence": "b", "label": 1, "label_name": "yes"},
     "classification", Item((0,), "no")),
    ({"text_a": "a", "text_b": "b", "score": 2}, {"text_a": "a", "text_b": "c", "score": 3}, "sts", Item((0, 1), 2.0)),
    ({"premise": "a", "hypothesis": "a", "relatedness": 2.5, "label": "neutral"},
     {"premise": "b", "hypothesis": "a", "relatedness": 1.5, "label": "neutral"}, "sts", Item((0, 0), 2.5)),
    ({"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "a", "sentence2": "c", "label": 0},
     "pair", Item((0, 1), 1.0)),
    ({"premise": "a", "hypothesis": "b", "label": "not_entailment"},
     {"premise": "a", "hypothesis": "c", "label": "entailment"}, "pair", Item((0, 1), 0.0)),
    ({"query": "q", "positives": ["p", "r"], "negatives": ["n"]}, {"query": "n", "positives": "p"},
     "retrieval", Item((0, 1, 2, 3), 2.0)),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "kind", "first"), CASES, ids=lambda case: str(case)[:20])
def test_the_kind_is_read_off_the_columns(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], kind: str, first: Item
) -> None:
    task = load_labelled(written(tmp_path, [one, other]))
    assert task.name == "task"
    assert task.kind == kind
    assert task.items[0] == first
    assert len(task.items) == 2


def test_texts_are_distinct_and_a_row_that_comes_twice_counts_once() -> None:
    rows = [{"text": t, "label": g} for t, g in (("a", 0), ("b", 1), ("a", 0), ("a", 1))]
    task = labelled("task", rows)
    assert task.texts == ("a", "b")
    assert task.items == (Item((0,), "0"), Item((1,), "1"), Item((0,), "1"))
    assert task.duplicates == 1


def test_a_limit_takes_labels_in_turn_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [{"text": f"text {k}", "label": "rare" if k < 3 else "common"} for k in range(50)]
    some = load_labelled(written(tmp_path, rows), limit=10)
    assert sorted(str(item.gold) for item in some.items) == ["common"] * 7 + ["rare"] * 3
    turned = load_labelled(written(tmp_path, rows[::-1]), limit=10)
    assert set(turned.texts) == set(some.texts)
    assert set(load_labelled(written(tmp_path, rows), limit=10, seed=1).texts) != set(some.texts)


def test_some_items_keep_only_the_texts_they_need() -> None:
    rows = [{"query": f"q{k}", "positives": [f"p{k}"], "negatives": ["n"]} for k in range(3)]
    some = labelled("task", rows).only([2, 0])
    assert some.texts == ("q2", "p2", "n", "q0", "p0")
    assert some.items == (Item((0, 1, 2), 1.0), Item((3, 4, 2), 1.0))


def test_equal_tasks_have_equal_hashes_and_a_changed_label_another() -> None:
    rows = two_classes(4)
    assert labelled("t", rows).hash == labelled("t", rows).hash
    assert labelled("t", rows).hash != labelled("t", [*rows[:-1], {"text": "text 3", "label": "7"}]).hash


WRONG: list[tuple[list[dict[str, Any]], str]] = [
    ([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], "every item has the class 'x'"),
    ([{"text_a": "a", "text_b": "b", "score": 1}] * 2, "every item has the score 1.0"),
    ([{"text_a": "a", "text_b": "b", "score": float("nan")}], "row 1 has the score nan; a finite number"),
    ([{"text": "a", "label": "x"}, {"text": None, "label": "y"}], "row 2: a text is a string, not NoneType"),
    ([{"text": "a", "label": None}], "row 1 has the label None"),
    ([{"premise": "a", "hypothesis": "b", "label": "neutral"}], "row 1 has the label 'neutral'; a pair is 1 or 0"),
    ([{"query": "a", "positives": []}], "row 1 has no positives"),
    ([{"query": "a", "positives": 3}], "positives is a list of texts, not int"),
    ([{"text": "a"}], "has the columns text; a task has one of these"),
    ([{"text": "a", "label": "x"}, {"label": "y"}], "row 2 has label, but no 'text'"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_wrong_rows_are_refused_by_number(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_labelled(written(tmp_path, rows))


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, two_classes(4))
    with pytest.raises(UnknownName, match="classification"):
        load_labelled(path, kind="clasification")
    with pytest.raises(BadInput, match="limit=0"):
        load_labelled(path, limit=0)
    with pytest.raises(EmptyMaterial):
        load_labelled(written(tmp_path, [], "empty.jsonl"))
    with pytest.raises(BadInput, match="two texts are needed"):
        load_labelled(path, kind="pair")


def test_an_empty_text_is_a_text() -> None:
    task = labelled("t", [{"text": "", "label": "x"}, {"text": "b", "label": "y"}])
    assert isinstance(task, Labelled)
    assert task.texts == ("", "b")
