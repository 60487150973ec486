"""Views of texts: what each stage may change and how much, what stays, and that a seed fixes all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from depthscope.errors import BadInput, EmptyMaterial, UnknownName
from depthscope.materials import augment as aug
from depthscope.materials.passages import Passages, key
from depthscope.runtime.tiny import tiny

TEXT = "Nine brown foxes jumped over seven sleeping animals, (twice) before the morning came."
"""17 tokens of the augmenter: 13 words and 4 signs."""


def draw(k: int) -> aug.Draw:
    return aug.drawn(0, TEXT, k)


def changed(before: str, after: str) -> list[tuple[str, str]]:
    pairs = zip(aug.tokens(before), aug.tokens(after), strict=True)
    return [(a, b) for a, b in pairs if a != b]


def test_tokens_are_words_and_signs_and_joining_them_normalises_blanks_only() -> None:
    assert aug.tokens("It's  (odd), no?") == ["It", "'", "s", "(", "odd", ")", ",", "no", "?"]
    assert aug.joined(aug.tokens("A  plain   one , ( really ) !")) == "A plain one, (really )!"
    assert aug.joined(["end", ".", '"', "said", "she", "50", "%", "off"]) == 'end. " said she 50% off'
    assert aug.joined(aug.tokens(TEXT)) == TEXT


def test_a_third_of_the_words_is_split_once_inside_the_word() -> None:
    assert len(aug.tokens(TEXT)) == 17
    for k in range(20):
        found = aug.split_words(TEXT, draw(k))
        assert found.replace(" ", "") == TEXT.replace(" ", "")
        # int(0.3 x 17) = 5 words were split, which gives 5 more tokens
        assert len(aug.tokens(found)) == 22
        pieces = set(aug.tokens(found)) - set(aug.tokens(TEXT))
        assert all(piece in TEXT for piece in pieces)
        short = {w for w in aug.tokens(TEXT) if len(w) < 4}
        assert short <= set(aug.tokens(found))


def test_a_word_of_four_is_split_before_its_last_letter_but_one() -> None:
    ends = {aug.split_words("abcd", draw(k)) for k in range(40)}
    assert ends == {"a bcd", "ab cd"}


def test_random_characters_replace_a_third_of_a_third_of_the_words() -> None:
    seen: set[str] = set()
    word = "abcdefghij" * 2
    for k in range(40):
        found = aug.substitute(word, draw(k))
        places = [b for a, b in zip(word, found, strict=True) if a != b] if len(found) == len(word) else []
        seen |= set(places)
        assert len(places) <= 6
    assert {c.isupper() for c in seen if c.isalpha()} == {True, False}
    assert any(c in "!@#$%^&*()_+" for c in seen)
    assert any(c.isdigit() for c in seen)


def test_a_slip_of_the_finger_lands_beside_the_key() -> None:
    assert set(aug.KEYBOARD["g"]) == set("rtyfhvbnRTYFHVBN")
    assert set(aug.KEYBOARD["G"]) == set("rtyfhvbnRTYFHVBN")
    assert set(aug.KEYBOARD["q"]) == set("1!2@wWaAsS")
    assert set(aug.KEYBOARD["1"]) == set("!2@qQwW")
    for k in range(20):
        for before, after in zip("foxesjumped", aug.mistype("foxesjumped", draw(k)), strict=True):
            assert before == after or after in aug.KEYBOARD[before]
    assert aug.mistype("äöüßÄ", draw(0)) == "äöüßÄ"


def test_how_many_change_is_bounded_and_grows_with_the_text_only_without_the_bound() -> None:
    long = " ".join(f"word{k:03d}x" for k in range(120))
    splits = len(aug.tokens(aug.split_words(long, draw(0)))) - 120
    free = len(aug.tokens(aug.split_words(long, draw(0), None))) - 120
    assert (splits, free) == (10, 36)
    few = len(aug.tokens(aug.split_words("just four words here", draw(0)))) - 4
    assert few == 1


def test_texts_without_a_long_word_stay_as_they_are() -> None:
    for text in ("", "   ", "a bc def", "1 2 3"):
        assert aug.views(text, 2) == (text.strip(), text.strip())


def test_views_differ_and_each_is_fixed_by_seed_text_and_number() -> None:
    four = aug.views(TEXT, 4)
    assert len(set(four)) == 4
    assert TEXT not in four
    assert aug.views(TEXT, 2) == four[:2]
    assert aug.views(TEXT, 2, 1) != four[:2]


def test_the_reference_put_brackets_and_quotes_around_every_view() -> None:
    plain, quoted = aug.views(TEXT, 3), aug.views(TEXT, 3, compat="reference")
    assert list(quoted) == [f"['{one}']" if "'" not in one else f'["{one}"]' for one in plain]
    assert all(a != b for a, b in zip(plain, quoted, strict=True))


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(BadInput, match="count=-1"):
        aug.views(TEXT, -1)
    with pytest.raises(BadInput, match="aug_max=0"):
        aug.views(TEXT, 1, aug_max=0)
    with pytest.raises(UnknownName, match="reference"):
        aug.views(TEXT, 1, compat="referense")
    with pytest.raises(UnknownName, match="typing"):
        aug.noisy(TEXT, "typping")
    with pytest.raises(BadInput, match="rate=2"):
        aug.noisy(TEXT, "typing", 2.0)


@pytest.mark.parametrize("kind", aug.NOISES)
def test_noise_grows_with_its_rate_and_keeps_what_it_does_not_speak_of(kind: str) -> None:
    text = " ".join([TEXT] * 5)
    assert aug.noisy(text, kind, 0.0) == text
    found = aug.noisy(text, kind, 0.3, seed=1)
    assert found != text
    assert found == aug.noisy(text, kind, 0.3, seed=1) != aug.noisy(text, kind, 0.3, seed=2)
    kept = {
        "typing": len,
        "casing": str.lower,
        "whitespace": lambda t: t.replace(" ", ""),
        "punctuation": lambda t: re.sub(r"[^\w\s]", "", t),
        "words": lambda t: set(t.split()) <= set(text.split()),
    }[kind]
    assert kept(found) == kept(text)
    assert aug.noisy("x", kind, 1.0) is not None


def test_dropped_ids_keep_their_order_and_the_first() -> None:
    ids = tuple(range(100))
    found = aug.drop_ids(ids, 0.5)
    assert list(found) == sorted(found)
    assert found[0] == 0
    assert 30 < len(found) < 70
    assert aug.drop_ids(ids, 1.0) == (0,)
    assert aug.drop_ids((), 0.5) == ()


# ----------------------------------------------------------------------------------------------------------- passages


TEXTS = (
    "one two three four five six seven eight",
    "another document with its own first passage in",
    "second passage of this very document goes here",
)


@pytest.fixture
def source(tmp_path: Path) -> str:
    paragraphs = ("= Title =", "", "one two three four five six seven eight nine", "too short", TEXTS[2])
    first = "\n".join(paragraphs)
    rows = [{"text": first}, {"text": "another document with its own first passage in it"}, {"text": first}]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_passages_are_beginnings_of_paragraphs_each_once_document_by_document(source: str) -> None:
    model = tiny("llama", vocab_size=200)
    found = Passages(source, words=8).windows(model, 0)
    assert [w.ids for w in found.items] == [tuple(model.tokenizer.encode(t)) for t in TEXTS]
    assert [w.about["key"] for w in found.items] == [key(t) for t in TEXTS]
    assert [w.document for w in found.items] == [
        "texts.jsonl-000000",
        "texts.jsonl-000001",
        "texts.jsonl-000000",
    ]
    assert len(Passages(source, texts=2, words=8).windows(model, 0).items) == 2


def test_views_take_the_place_of_their_passage(source: str) -> None:
    model = tiny("llama", vocab_size=200)
    found = Passages(source, words=8, views=3).windows(model, 5)
    assert [(w.about["text"], w.about["view"]) for w in found.items] == [
        (t, v) for t in range(3) for v in range(3)
    ]
    assert found.items[1].ids == tuple(model.tokenizer.encode(aug.views(TEXTS[0], 3, 5)[1]))
    assert all(w.about["changed"] for w in found.items)
    assert len({w.ids for w in found.items}) == 9
    assert Passages(views=3).name != Passages().name


def test_a_passage_that_is_too_long_is_cut_and_counted(source: str) -> None:
    model = tiny("llama", vocab_size=200, max_position_embeddings=30)
    found = Passages(source, words=8).windows(model, 0)
    assert {len(w.ids) for w in found.items} == {30}
    assert found.dropped == sum(len(text) - 30 for text in TEXTS)


def test_wrong_sources_and_numbers_are_told(source: str, tmp_path: Path) -> None:
    model = tiny("llama", vocab_size=200)
    with pytest.raises(BadInput, match="texts=1 must be 2 or more"):
        Passages(source, texts=1).windows(model, 0)
    with pytest.raises(BadInput, match="no data at"):
        Passages("nowhere.txt").windows(model, 0)
    path = tmp_path / "short.txt"
    path.write_text("hardly any words\n= A heading that is long enough to be a passage =\n", encoding="utf-8")
    with pytest.raises(EmptyMaterial, match="0 different paragraphs of 8 words"):
        Passages(str(path)).windows(model, 0)
