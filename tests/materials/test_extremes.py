"""Edited texts: which ids change, which stay, and that all levels share their draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.extremes import LOWEST, Extremes
from depthscope.materials.paragraphs import paragraphs
from depthscope.materials.window import Material, Window
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama")
LINES = [
    f"Line {k} of a text about boats and birds that is long enough to be kept, {k * k} words."
    for k in range(6)
]
FEW = Extremes("", 4, 24, (3, 3, 3), (8, 16), 2, (5,))


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(f"= One =\n\n{LINES[0]}\n{LINES[1]}\nshort\n\n= Two =\n\n{LINES[2]}\n", "utf-8")
    return str(path)


def of(items: tuple[Window, ...], kind: str, mode: str, text: int = 0) -> dict[float, np.ndarray]:
    """Level -> ids of one text in one mode."""
    chosen = [
        w for w in items if w.about["kind"] == kind and w.about["text"] == text and mode in w.about["modes"]
    ]
    levels = [w.about["level"] for w in chosen]
    assert len(levels) == len(set(levels))
    return {w.about["level"]: np.array(w.ids) for w in chosen}


def test_repetition_puts_one_token_of_the_text_in_more_places_from_level_to_level():
    items = FEW.windows(MODEL, 0).items
    assert isinstance(FEW, Material)
    by = of(items, "repetition", "exact")
    assert list(by) == [0.0, 0.45, 0.9]
    plain = by[0.0]
    changed = [np.flatnonzero(ids != plain) for ids in by.values()]
    assert set(changed[1]) <= set(changed[2])
    put = {int(t) for ids, at in zip(by.values(), changed, strict=True) for t in ids[at]}
    assert len(put) == 1
    assert put <= set(plain.tolist())


def test_random_ids_stay_within_the_vocabulary_and_shares_follow_the_level():
    many = Extremes("", 40, 100, (2, 5, 2), (40,), 40, (2,))
    items = many.windows(MODEL, 3).items
    texts = {w.about["text"] for w in items}
    for level, share in zip((0.25, 0.5, 1.0), (0.25, 0.5, 1.0), strict=True):
        found = [of(items, "randomness", "exact", t) for t in texts]
        differ = np.concatenate([f[level] != f[0.0] for f in found])
        # a drawn id equals the old one once in about 76 times; 40 texts of up to 100 places
        assert differ.mean() == pytest.approx(share * 75 / 76, abs=0.04)
    drawn = np.concatenate([of(items, "length", "exact", t)[40.0] for t in texts])
    assert drawn.min() == LOWEST
    assert drawn.max() == len(MODEL.tokenizer) - 1


def test_the_first_token_stays_in_its_mode_and_equal_windows_are_read_once():
    items = FEW.windows(MODEL, 0).items
    assert [w.index for w in items] == list(range(len(items)))
    for number in range(4):
        first = of(items, "repetition", "exact", number)[0.0][0]
        for kind in ("repetition", "randomness", "length", "copies", "truncation"):
            kept = of(items, kind, "first_kept", number)
            assert all(ids[0] == first for ids in kept.values())
            for level, ids in of(items, kind, "exact", number).items():
                np.testing.assert_array_equal(ids[1:], kept[level][1:])
    ids = {(w.about["kind"], w.about["level"], w.about["text"], w.ids) for w in items}
    assert len(ids) == len(items)


def test_lengths_nest_truncations_keep_the_beginning_and_copies_are_copies():
    items = FEW.windows(MODEL, 1).items
    long, plain = of(items, "length", "exact"), of(items, "repetition", "exact")[0.0]
    np.testing.assert_array_equal(long[8.0], long[16.0][:8])
    cut = of(items, "truncation", "exact")
    assert [len(ids) for ids in cut.values()] == [2, 13, 24]  # of 24: max(2, 2), int(13.2), 24
    np.testing.assert_array_equal(cut[0.55], plain[:13])
    assert len(set(of(items, "copies", "exact")[5.0].tolist())) == 1
    assert not of(items, "length", "exact", 2)  # two draws only


def test_equal_seeds_give_equal_windows_and_others_do_not():
    hashes = [FEW.windows(MODEL, seed).hash for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_paragraphs_drop_headings_and_short_lines_and_take_documents_in_turn(text: str):
    where, found = paragraphs(text, 9, 0)
    assert where == "text.txt"
    assert {p.text for p in found} == set(LINES[:3])
    assert found[0].document != found[1].document
    assert [p.text for p in paragraphs(text, 1, 0)[1]] == [found[0].text]


def test_whole_documents_carry_their_label(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(f'{{"text": "{line}", "kind": "k{k % 2}"}}\n' for k, line in enumerate(LINES)), "utf-8"
    )
    _, found = paragraphs(str(path), 9, 0, whole=True, label="kind")
    assert {p.text: p.label for p in found} == {line: f"k{k % 2}" for k, line in enumerate(LINES)}
    with pytest.raises(BadInput, match="row 1 lacks 'text' or 'genre'; it has text, kind"):
        paragraphs(str(path), 9, 0, label="genre")
    with pytest.raises(BadInput, match="needs a file of JSON lines"):
        paragraphs("", 9, 0, label="kind")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"levels": (1, 3, 3)}, "2 levels or more"),
        ({"lengths": ()}, r"lengths=\(\)"),
        ({"copies": (1,)}, r"copies=\(1,\) \(tokens\) must be one number or more, each 2 or more"),
        ({"prompts": 0}, "prompts=0"),
    ],
)
def test_wrong_parameters_are_told(given: dict, words: str):
    with pytest.raises(BadInput, match=words):
        Extremes(**given)


def test_what_a_model_cannot_read_is_told(text: str, tmp_path: Path):
    with pytest.raises(BadInput, match="has 64 positions; give shorter ones"):
        Extremes(lengths=(100,)).windows(tiny("gpt2", n_positions=64), 0)
    with pytest.raises(BadInput, match="has 21 token ids"):
        FEW.windows(tiny("llama", vocab_size=21), 0)
    empty = tmp_path / "empty.txt"
    empty.write_text("short\n")
    with pytest.raises(EmptyMaterial, match="no paragraph of 60 characters"):
        Extremes(str(empty)).windows(MODEL, 0)
