"""Pairs of tasks without examples: what can be asked is kept, a task without such a pair is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from depthscope.errors import EmptyMaterial
from depthscope.materials.icl_tasks import Asking
from depthscope.materials.task_pairs import TaskPairs
from depthscope.runtime.tiny import PlainTokenizer, tiny


class Merging(PlainTokenizer):
    """Reads `A: m` with one token, so that such an answer does not extend its prompt."""

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return super().encode(text.replace("A: m", "A~"), add_special_tokens)


def written(folder: Path, rows: list[tuple[str, str, str]]) -> str:
    path = folder / "some.jsonl"
    keys = ("task", "input", "output")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    return str(path)


def test_pairs_that_cannot_be_asked_and_tasks_without_any_are_left_out(tmp_path: Path):
    model = replace(tiny("llama"), tokenizer=Merging(64))
    source = written(tmp_path, [("one", "a", "b"), ("one", "c", "m"), ("two", "a", "m"), ("three", "x", "y")])
    found = TaskPairs(source).windows(model, 0)
    assert [window.document for window in found.items] == ["one", "three"]
    assert found.items[0].about == {"task": "one", "pairs": [["a", "b"]]}
    assert list(found.items[0].ids) == model.tokenizer.encode("Q: a\nA: ")
    with pytest.raises(EmptyMaterial, match="no pair of"):
        TaskPairs(source, ("two",)).windows(model, 0)


def test_a_word_within_a_text_stands_behind_a_space_that_is_its_own_token_or_not():
    plain = Asking(PlainTokenizer(64), [])
    assert plain.within("ab") == plain.ids("ab")
    assert len(plain.within("a")) == 1
