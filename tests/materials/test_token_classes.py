"""Token classes on a list of characters written by hand, and on tokenizers of two kinds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from depthscope.materials.token_classes import CLASSES, Rule, spelled_alone, token_classes
from depthscope.runtime.tiny import PlainTokenizer

FIXTURE = {
    "newline": ["\n", "\n\n", "\r\n", " \n ", "\t\n", "\r"],
    "whitespace": [" ", "   ", "\t", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}"],
    "letters": ["the", " the", "The", "x", " ABC", "a\n"],
    "digits": ["0", " 42", "2024", "\N{ARABIC-INDIC DIGIT FOUR}\N{ARABIC-INDIC DIGIT TWO}"],
    "punctuation": [
        ".", ",", "...", ' "', "--", "<", ">", "=", "+", "$", "'", "\N{LEFT DOUBLE QUOTATION MARK}", "<=",
        "\N{IDEOGRAPHIC FULL STOP}", "\N{EURO SIGN}", "/*", "->", "\N{GRINNING FACE}",
    ],
    "opening_bracket": [
        "(", " (", "[", "{", "([", '("', "\N{FULLWIDTH LEFT PARENTHESIS}", "\N{LEFT CORNER BRACKET}",
        "\N{LEFT BLACK LENTICULAR BRACKET}",
    ],
    "closing_bracket": [")", "]", " }", ").", "))", ");", "\N{FULLWIDTH RIGHT PARENTHESIS}"],
    "other": [
        "", "x=", "abc1", "1st", "don't", "'s", "caf\u00e9", "\u6885", "\u3042", "\ufffd", "a\ufffd", "3.14",
        "\u00b2", "(a",
        "\u200b", "a b",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_every_string_of_the_list_is_of_its_class(name: str) -> None:
    assert {text: Rule().of(text) for text in FIXTURE[name]} == dict.fromkeys(FIXTURE[name], name)


def test_a_special_id_is_other_whatever_it_spells_but_for_white_space() -> None:
    assert Rule().of("<|endoftext|>", special=True) == "other"
    assert Rule().of("the", special=True) == "other"
    assert Rule().of("\n", special=True) == "newline"


def test_what_counts_as_what_can_be_asked_for() -> None:
    wide = Rule(unicode_letters=True)
    assert wide.of("\N{CJK UNIFIED IDEOGRAPH-6885}") == "letters"
    assert wide.of("don't") == "other"
    assert Rule(apostrophe_ok=True).of("don't") == "letters"
    assert Rule(apostrophe_ok=True).of("'") == "punctuation"
    assert Rule(angles=True).of(" <") == "opening_bracket"
    assert Rule(angles=True).of(">") == "closing_bracket"


class Pieces:
    """A tokenizer of pieces whose decoder drops the first space, as SentencePiece decoders do."""

    pieces = ("<unk>", "<s>", "\u2581the", "the", "\u2581", "<0x0A>", "<0xE4>", "(")
    all_special_ids = (0, 1)

    def __len__(self) -> int:
        return len(self.pieces)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.pieces[k] for k in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[k] for k in ids).replace("\u2581", " ").strip()


def test_pieces_keep_their_space_and_bytes_become_characters() -> None:
    assert spelled_alone(Pieces())[2:] == (" the", "the", " ", "\n", "\N{REPLACEMENT CHARACTER}", "(")
    found = token_classes(Pieces())
    names = [CLASSES[k] for k in found.of(range(8))]
    assert names == [
        "other",
        "other",
        "letters",
        "letters",
        "whitespace",
        "newline",
        "other",
        "opening_bracket",
    ]
    assert found.sizes["letters"] == 2
    assert CLASSES[found.of([99])[0]] == "other"


def test_other_tokenizers_are_read_by_decoding_each_id() -> None:
    tokenizer = PlainTokenizer(64)
    found = token_classes(tokenizer)
    assert len(found.texts) == 64
    assert [CLASSES[k] for k in found.of([1, 7, 12, 18, 40])] == [
        "other", "opening_bracket", "punctuation", "digits", "letters",
    ]  # fmt: skip
    # the same tokenizer is not spelled twice
    assert token_classes(tokenizer) is found
