"""In-context tasks: prompts are spelled as said, wrong examples keep nothing, and odd tokenizations are counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.icl_tasks import Asking, IclPrompts, deranged, icl_tasks
from depthscope.runtime.tiny import PlainTokenizer, tiny


class Merging(PlainTokenizer):
    """Reads `: x` with one token where x is "m", so that such an answer does not extend its prompt."""

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return super().encode(text.replace("A: m", "A~"), add_special_tokens)


def written(folder: Path, pairs: list[tuple[str, str]]) -> str:
    path = folder / "some.jsonl"
    path.write_text("".join(json.dumps({"input": x, "output": y}) + "\n" for x, y in pairs))
    return str(path)


def test_every_packaged_task_has_pairs_of_its_own_and_each_input_once():
    tasks = icl_tasks()
    assert len(tasks) >= 8
    for task in tasks:
        assert len(task.pairs) >= 50
        assert len({x for x, _ in task.pairs}) == len(task.pairs)
    antonyms = dict(icl_tasks(names=["antonym"])[0].pairs)
    assert all(antonyms[y] == x for x, y in antonyms.items()), "each word stands on both sides"


def test_the_parts_of_a_task_share_no_pair_and_hold_all_of_them():
    task = icl_tasks(names=["present_past"])[0]
    parts = task.parted(3)
    joined = [pair for part in parts for pair in part]
    assert sorted(joined) == sorted(task.pairs)
    assert len(parts[0]) == 32


def test_no_example_keeps_its_output_where_none_is_too_frequent():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        for _ in range(20):
            pairs = (
                [(str(k), str(k % (n - n // 2))) for k in range(n)]
                if n > 3
                else [(str(k), str(k)) for k in range(n)]
            )
            mixed = deranged(pairs, rng)
            assert [x for x, _ in mixed] == [x for x, _ in pairs]
            assert sorted(y for _, y in mixed) == sorted(y for _, y in pairs)
            assert all(a[1] != b[1] for a, b in zip(mixed, pairs, strict=True))
    same = [("a", "x"), ("b", "x"), ("c", "y")]
    assert sum(a[1] == b[1] for a, b in zip(deranged(same, rng), same, strict=True)) == 1


def test_a_prompt_is_spelled_with_its_examples_and_ends_before_the_answer():
    asking = Asking(PlainTokenizer(200), [1])
    ids, answer = asking.prompt([("big", "small")], ("hot", "cold"))
    spell = PlainTokenizer(200).encode
    # a space is a token of its own in this tokenizer, so it belongs to the prompt
    assert ids == [1, *spell("Q: big\nA: small\n\nQ: hot\nA: ")]
    assert answer == spell("c")[0]


def test_pairs_whose_answer_does_not_extend_the_prompt_are_dropped_and_counted(tmp_path: Path):
    model = tiny("llama")
    pairs = [(chr(97 + k), chr(98 + k)) for k in range(20)]
    source = written(tmp_path, pairs)
    object.__setattr__(model, "tokenizer", Merging(96))
    about = IclPrompts(source, shots=2, taken=2, corrupted=2, queries=2).windows(model, 0).items[0].about
    assert (about["pairs"], about["dropped"]) == (19, 1)


def test_answers_that_begin_as_their_query_does_are_counted(tmp_path: Path):
    pairs = [(f"{chr(97 + k)}x", f"{chr(97 + k)}y") for k in range(6)] + [
        (f"{chr(105 + k)}x", "zy") for k in range(6)
    ]
    about = IclPrompts(written(tmp_path, pairs), shots=2, queries=2).windows(tiny("llama"), 0).items[0].about
    assert about["shared"] == 0.5


def test_folders_hold_a_task_a_file_and_too_few_pairs_are_refused(tmp_path: Path):
    source = written(tmp_path, [(chr(97 + k), chr(98 + k)) for k in range(4)])
    assert [task.name for task in icl_tasks(str(tmp_path))] == ["some"]
    with pytest.raises(EmptyMaterial, match="4 pairs of 4 that can be asked; needed: 8"):
        IclPrompts(source).windows(tiny("llama"), 0)
    (tmp_path / "none").mkdir()
    with pytest.raises(EmptyMaterial, match=r"holds no file of JSON lines"):
        icl_tasks(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="an input and an output"):
        icl_tasks(written(tmp_path, [("a", " ")]))


def test_fewer_examples_are_shown_where_ten_do_not_fit():
    about = IclPrompts(tasks=("capitalise",)).windows(tiny("gpt2"), 0).items[0].about
    longest = max(len(ids) for role in about["prompts"].values() for ids, _ in role)
    assert 1 <= about["shots"] < 10
    assert longest <= 128
