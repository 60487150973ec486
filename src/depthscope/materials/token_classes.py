"""Token classes: what kind of text one token id spells, in eight classes, by a rule on its characters alone.

With d the characters of a single id and u = d without white space at its ends, the first line that holds decides:

1. newline: u is empty and d has a line feed or a carriage return
2. whitespace: u is empty and d is not
3. other: a special id, an empty d, or bytes that are no whole character
4. all characters of u are punctuation or symbols (Unicode P*, S*), and the first one says which: opening bracket (Ps),
   closing bracket (Pe), else punctuation; "<" and ">" are signs of comparison unless asked for
5. letters: all characters are ASCII letters
6. digits: all characters are decimal digits
7. other: everything else, such as "x=", "abc1", letters of other scripts

Source: the eight classes of Sekiguchi, Ishigaki and Maeda (predictable and novel components of hidden states); they
give no rule, this one is ours.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from depthscope.materials.spelling import UNFINISHED, special_ids, text_of

CLASSES = (
    "newline", "whitespace", "letters", "digits", "punctuation", "opening_bracket", "closing_bracket", "other",
)  # fmt: skip
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"


@dataclass(frozen=True)
class Rule:
    """What the classes count as what.

    Args:
        unicode_letters: letters of every script are letters. apostrophe_ok: so are "'s" and "don't".
        angles: "<" opens and ">" closes a bracket.
    """

    unicode_letters: bool = False
    apostrophe_ok: bool = False
    angles: bool = False

    def of(self, text: str, special: bool = False) -> str:
        """The class of the characters that one id spells."""
        bare = text.strip()
        if not bare and text:
            return "newline" if "\n" in text or "\r" in text else "whitespace"
        if special or not text or UNFINISHED in text:
            return "other"
        if all(unicodedata.category(c)[0] in "PS" for c in bare):
            return self._sign(bare[0])
        if self._letters(bare):
            return "letters"
        return "digits" if all(unicodedata.category(c) == "Nd" for c in bare) else "other"

    def _sign(self, first: str) -> str:
        kind = unicodedata.category(first)
        if kind == "Ps" or (self.angles and first == "<"):
            return "opening_bracket"
        return "closing_bracket" if kind == "Pe" or (self.angles and first == ">") else "punctuation"

    def _letters(self, bare: str) -> bool:
        if self.apostrophe_ok:
            bare = bare.translate(dict.fromkeys(map(ord, _APOSTROPHES)))
        known = (unicodedata.category(c)[0] == "L" if self.unicode_letters else c.isascii() for c in bare)
        return bool(bare) and bare.isalpha() and all(known)


@dataclass(frozen=True, eq=False)
class TokenClasses:
    """The class of every id of one tokenizer.

    Args:
        place: place in CLASSES of each id. texts: what each id spells.
    """

    place: Int[np.ndarray, " id"]
    texts: tuple[str, ...]

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many ids each class has."""
        return dict(zip(CLASSES, np.bincount(self.place, minlength=len(CLASSES)).tolist(), strict=True))

    def of(self, ids: Sequence[int]) -> list[int]:
        """Places in CLASSES of some ids; an id beyond the tokenizer's is "other"."""
        last = CLASSES.index("other")
        return [int(self.place[i]) if 0 <= i < len(self.place) else last for i in ids]


@functools.lru_cache(maxsize=4)
def token_classes(tokenizer: Any, rule: Rule = Rule()) -> TokenClasses:  # noqa: ANN401  (a frozen value)
    """The class of every id of a tokenizer; one with "▁" for the space is read by its pieces, others by decoding."""
    special = frozenset(special_ids(tokenizer))
    texts = spelled_alone(tokenizer)
    place = [CLASSES.index(rule.of(text, k in special)) for k, text in enumerate(texts)]
    return TokenClasses(np.asarray(place, np.int64), texts)


def spelled_alone(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """What each id spells by itself.

    Decoders of pieces drop the space before a text's first word, so "▁" is turned into a space here, and pieces such as
    <0x0A> into their byte; a byte that is no character by itself is U+FFFD.
    """
    ids = range(_size(tokenizer))
    pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    if not any(piece.startswith(_SPACE) for piece in pieces):
        return tuple(text_of(tokenizer, [k]) for k in ids)
    return tuple(_piece(piece) for piece in pieces)


def _piece(piece: str) -> str:
    byte = _BYTE.fullmatch(piece)
    if byte:
        return bytes([int(byte[1], 16)]).decode("utf-8", errors="replace")
    return piece.replace(_SPACE, " ")


def _size(tokenizer: Any) -> int:  # noqa: ANN401
    """Ids from 0 to the largest."""
    known = tokenizer.get_vocab().values() if hasattr(tokenizer, "get_vocab") else range(len(tokenizer))
    return max(known) + 1
