"""Prefixes are beginnings of paragraphs, all different, cut after a word, the last position marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.prefixes import SHORTEST, Prefixes
from depthscope.materials.window import Material
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama")
POSITIONS = 128
LONG = " ".join(f"word{k}" for k in range(40))
SPLIT = LONG[:120] + "\n" + LONG[120:]


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Three articles: the second is too short, the third has a line break in its only long paragraph."""
    path = tmp_path / "text.txt"
    path.write_text(
        f"= One =\n\n{LONG}\n\nA short one.\n\n= Two =\n\nToo short.\n\n= Three =\n\n{SPLIT}\n", "utf-8"
    )
    return str(path)


def spelled(ids: tuple[int, ...]) -> list[int]:
    """The beginning of the paragraph with as many characters."""
    return MODEL.tokenizer.encode(LONG[: len(ids)])


def test_prefixes_begin_a_long_paragraph_and_end_with_a_word(text: str):
    found = Prefixes(text, 12).windows(MODEL, 0)
    assert isinstance(Prefixes(text, 12), Material)
    assert len(found.items) == 12
    for window in found.items:
        assert list(window.ids) == spelled(window.ids)
        assert SHORTEST <= len(window.ids) <= POSITIONS
        assert LONG[len(window.ids)] == " "
        assert window.marks == (len(window.ids) - 1,)
        assert window.document == "text-0001"


def test_prefixes_are_all_different_and_no_more_than_there_are(text: str):
    found = Prefixes(text, 500).windows(MODEL, 0)
    ends = [k for k in range(SHORTEST, POSITIONS + 1) if LONG[k] == " "]
    assert sorted(len(w.ids) for w in found.items) == ends


def test_equal_seeds_give_equal_prefixes_and_others_other_ones(text: str):
    first = Prefixes(text, 8).windows(MODEL, 3)
    assert first.hash == Prefixes(text, 8).windows(MODEL, 3).hash
    assert first.hash != Prefixes(text, 8).windows(MODEL, 4).hash


def test_the_packaged_sample_has_prefixes():
    found = Prefixes(prompts=20).windows(MODEL, 0)
    assert len(found.items) == 20
    assert len(found.documents) > 8


def test_prefixes_longer_than_the_model_has_positions_are_left_out(text: str):
    learnt = tiny("gpt2")
    found = Prefixes(text, 500).windows(learnt, 0)
    assert max(len(w.ids) for w in found.items) <= learnt.config.max_position_embeddings == POSITIONS
    assert len(found.items) > 5


def test_a_text_without_long_paragraphs_and_no_prompts_are_errors(tmp_path: Path):
    (tmp_path / "short.txt").write_text(f"Too short.\n\n{SPLIT}", "utf-8")
    with pytest.raises(EmptyMaterial, match="more than 200 characters"):
        Prefixes(str(tmp_path / "short.txt")).windows(MODEL, 0)
    with pytest.raises(BadInput, match="0 prompts"):
        Prefixes(prompts=0).windows(MODEL, 0)
    with pytest.raises(BadInput, match="no data at"):
        Prefixes("nowhere").windows(MODEL, 0)
