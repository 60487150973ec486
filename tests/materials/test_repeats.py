"""Blocks of random tokens: repeated exactly, without a token twice, and drawn anew for each example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.repeats import Repeats, drawable
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama", torch.float32)
SMALL = Repeats(length=6, short=4, examples=3)


def test_every_copy_is_the_first_one_and_no_token_comes_twice_in_it() -> None:
    found = SMALL.windows(MODEL, 0)
    assert [len(w.ids) for w in found.items] == [13] * 3 + [17] * 3
    for window in found.items:
        length, copies = window.about["length"], window.about["copies"]
        assert window.ids[0] == MODEL.tokenizer.bos_token_id
        blocks = np.array(window.ids[1:]).reshape(copies, length)
        assert (blocks == blocks[0]).all()
        assert len(set(blocks[0])) == length
        assert min(blocks[0]) >= 3
        assert window.about["queries"] == list(range(1 + length, len(window.ids)))


def test_examples_differ_and_a_seed_gives_the_same_again() -> None:
    first, again, other = (SMALL.windows(MODEL, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.hash != other.hash
    assert len({w.ids for w in first.items}) == 6
    assert first.units()[0] == "windows"


def test_without_bos_a_block_starts_at_once_and_a_layout_can_be_left_out() -> None:
    found = Repeats(length=0, short=4, examples=1, bos="never").windows(MODEL, 0)
    assert [(len(w.ids), w.about["start"], w.about["copies"]) for w in found.items] == [(16, 0, 4)]


def test_words_are_drawn_from_a_large_vocabulary_without_its_ends() -> None:
    class Words:
        bos_token_id = 1

        def __len__(self) -> int:
            return 5000

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            # even ids begin a word
            return [("\u0120" if i % 2 == 0 else "") + "word" for i in ids]

    from dataclasses import replace

    model = replace(tiny("llama", torch.float32, vocab_size=5000), tokenizer=Words())
    np.testing.assert_array_equal(drawable(model), np.arange(100, 4000, 2))


def test_texts_follow_as_a_control(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("a tide came in and went out again")
    found = Repeats(4, 0, 1, texts=2, text_length=16, text=str(path)).windows(MODEL, 0)
    kinds = [(w.about["kind"], len(w.ids)) for w in found.items]
    assert kinds == [("repeat", 9), ("text", 16)]
    with pytest.raises(EmptyMaterial, match="no text of 99 tokens"):
        Repeats(4, 0, 1, texts=1, text_length=100, text=str(path)).windows(MODEL, 0)


def test_wrong_sizes_are_refused_with_the_values() -> None:
    with pytest.raises(BadInput, match="has 93 ids to draw from and 128 positions"):
        Repeats(length=94, short=0).windows(MODEL, 0)
    with pytest.raises(BadInput, match="161 in all"):
        Repeats(length=80, short=0).windows(MODEL, 0)
    with pytest.raises(BadInput, match="2 tokens or more"):
        Repeats(length=1)
    with pytest.raises(BadInput, match="examples=0"):
        Repeats(examples=0)
