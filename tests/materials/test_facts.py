"""Facts become windows of ids: each once, its answer appended as ids, its answer tokens marked."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from depthscope.errors import BadInput, EmptyMaterial, Refused
from depthscope.materials.continuation import continued
from depthscope.materials.facts import LEFT_OUT, FactPrompts, facts
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny


class Words:
    """A tokenizer whose tokens are words with the space before them, cut after four letters."""

    bos_token_id = None

    def __init__(self, keeps_space: bool = True) -> None:
        self.known: dict[str, int] = {}
        self.keeps_space = keeps_space

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        if not self.keeps_space:
            text = text.replace(" ", "")
        pieces: list[str] = []
        for word in text.replace(" ", "\0 ").split("\0"):
            head = 5 if word.startswith(" ") else 4
            pieces += [p for p in (word[:head], *(word[k : k + 4] for k in range(head, len(word), 4))) if p]
        return [self.known.setdefault(p, len(self.known)) for p in pieces]

    def decode(self, ids: list[int]) -> str:
        back = {i: p for p, i in self.known.items()}
        return "".join(back[i] for i in ids)


def model(tokenizer: Any, longest: int = 64) -> Model:
    return replace(tiny("llama", max_position_embeddings=longest), tokenizer=tokenizer)


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROWS = [
    {"cloze": "The sea at Abo is", "answer": "cold", "relation": "sea"},
    {"cloze": "The sea at Abo is", "answer": "cold", "relation": "sea"},
    {"cloze": "The king of Ys was called", "answer": "Gradlon", "relation": "king"},
    {"cloze": "The cold lake is", "answer": "Cold", "relation": "sea"},
]


def test_an_answer_is_appended_as_ids_and_marked_where_it_is_predicted(tmp_path: Path) -> None:
    words = Words()
    found = FactPrompts(written(tmp_path, ROWS), control=False).windows(model(words), 0)
    sea, king = found.items
    assert [words.decode([i]) for i in sea.ids] == ["The", " sea", " at", " Abo", " is", " cold"]
    assert sea.marks == (4,)
    assert [words.decode([king.ids[m + 1]]) for m in king.marks] == [" Grad", "lon"]
    assert king.about["length"] == 2


def test_a_fact_that_is_stated_twice_is_one_fact_of_weight_two(tmp_path: Path) -> None:
    found = FactPrompts(written(tmp_path, ROWS), control=False).windows(model(Words()), 0)
    assert [w.about["weight"] for w in found.items] == [2, 1]
    assert len({w.document for w in found.items}) == 2


def test_files_are_read_together_and_associations_are_no_facts(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    bias = {"cloze": "A nurse is", "answer": "kind", "relation_type": "bias"}
    source = f"{written(tmp_path, ROWS)},{written(tmp_path / 'more', [ROWS[0], bias])}"
    assert [(f.answer, f.weight) for f in facts(source)[1]] == [("cold", 3), ("Gradlon", 1), ("Cold", 1)]


def test_an_answer_that_stands_in_the_prompt_is_left_out_and_counted(tmp_path: Path) -> None:
    found = FactPrompts(written(tmp_path, ROWS), control=False).windows(model(Words()), 0)
    assert dict(zip(LEFT_OUT, found.items[0].about["left_out"], strict=True)) == {
        "answer in the prompt": 1, "answer is a number": 0, "answer too long": 0, "prompt too long": 0,
    }  # fmt: skip
    alias = [{"cloze": "The old man of the sea said", "answer": "Proteus", "aliases": ["old man of the sea"]}]
    with pytest.raises(EmptyMaterial, match="1 answer in the prompt"):
        FactPrompts(written(tmp_path, alias), control=False).windows(model(Words()), 0)


def test_numbers_are_left_out(tmp_path: Path) -> None:
    rows = [{"cloze": "The war ended in", "answer": year} for year in ("1918", "1,918.5")]
    with pytest.raises(EmptyMaterial, match="2 answer is a number"):
        FactPrompts(written(tmp_path, rows), control=False).windows(model(Words()), 0)


def test_prompts_longer_than_the_model_reads_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(EmptyMaterial, match="2 prompt too long"):
        FactPrompts(written(tmp_path, ROWS[1:]), control=False).windows(model(Words(), longest=5), 0)


def test_a_limit_takes_from_the_relations_in_turn(tmp_path: Path) -> None:
    rows = [{"cloze": f"Number {k} is", "answer": f"w{k}", "relation": "abcd"[k % 2]} for k in range(40)]
    rows += [{"cloze": "The last is", "answer": "rare", "relation": "z"}]
    found = FactPrompts(written(tmp_path, rows), limit=9, control=False).windows(model(Words()), 1)
    assert Counter(w.about["relation"] for w in found.items) == {"a": 4, "b": 4, "z": 1}
    again = FactPrompts(written(tmp_path, rows), limit=9, control=False).windows(model(Words()), 1)
    assert found == again


@pytest.mark.parametrize("empty", [{"cloze": "A is", "answer": " "}, {"cloze": "", "answer": "b"}])
def test_an_empty_answer_or_prompt_is_refused_with_its_row(tmp_path: Path, empty: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=r"row 5 has the (answer|cloze)"):
        facts(written(tmp_path, [*ROWS, empty]))


def test_a_file_without_the_column_and_an_unknown_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="row 1 has no 'answer'; it has 'cloze', 'object'"):
        facts(written(tmp_path, [{"cloze": "A is", "object": "b"}]))
    with pytest.raises(BadInput, match="there is no data at nowhere/facts"):
        facts("nowhere/facts.jsonl")
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(EmptyMaterial, match=r"none\.jsonl has no rows"):
        facts(str(tmp_path / "none.jsonl"))
    with pytest.raises(BadInput):
        facts(str(tmp_path))


def test_a_tokenizer_that_drops_spaces_is_refused() -> None:
    with pytest.raises(Refused, match="it drops the space before an answer"):
        continued(Words(keeps_space=False), "The sea is", "cold")


def test_a_space_that_is_a_token_of_its_own_counts_to_the_prompt() -> None:
    tokenizer = tiny("llama").tokenizer
    prompt, answer = continued(tokenizer, "one", "two")
    assert (prompt, answer) == (tokenizer.encode("one "), tokenizer.encode("two"))


def test_a_merge_across_the_border_leaves_the_answer_whole() -> None:
    class Merging(Words):
        def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
            return [9, 9] if text == "of the" else super().encode(text)

    words = Merging()
    prompt, answer = continued(words, "of", "the")
    assert prompt + answer == words.encode("of") + words.encode(" the")


def test_controls_have_the_shapes_of_the_facts() -> None:
    tokenizer = Words()
    found = FactPrompts(limit=40).windows(model(tokenizer), 0).items
    recalled = [w for w in found if w.about["kind"] == "fact"]
    words = [w for w in found if w.about["kind"] == "continuation"]
    shape = [(w.about["length"], len(w.about["cloze"].split())) for w in recalled]
    control = [(w.about["length"], len(w.about["cloze"].split())) for w in words]
    assert len(recalled) == 40
    assert not Counter(control) - Counter(shape)
    assert len(control) >= 30
    for w in words:
        assert w.about["answer"].lower() not in w.about["cloze"].lower()
        assert len(w.marks) == w.about["length"]


def test_the_packaged_facts_are_single_facts_that_do_not_give_themselves_away() -> None:
    _, found = facts("")
    assert len(found) >= 120
    assert all(f.weight == 1 and f.relation for f in found)
    assert sum(f.gives_itself_away() for f in found) == 0
