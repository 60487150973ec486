"""Augment: copies of a text disturbed at random, which a good representation should still tell to be that text.

The three stages of Skean et al. 2025 (arXiv 2502.02013, appendix D) with the parameters of nlpaug 1.1.11, whose
augmenters they used; written anew. A view is typed(substituted(split(text))): words are split in two, characters are
replaced by random ones, characters are replaced by neighbours on the keyboard. Two views are compared with each other,
never a view with its text. And further kinds of noise, one rate each, for what users do to texts.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from depthscope.errors import BadInput, UnknownName

Draw = np.random.Generator
SHARE, FEWEST, MOST, SHORTEST = 0.3, 1, 10, 4
"""Share of words (of a word's characters) that a stage changes, the least and most of them, the shortest such word."""
RANDOM = string.ascii_letters + string.digits + "!@#$%^&*()_+"
"""What a character is replaced by."""
COMPATS = ("", "reference")
_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl;", "zxcvbnm,./")
_SHIFTED = dict(zip("1234567890;,./", "!@#$%^&*():<>?", strict=True))
_WORDS = re.compile(r"(\W)")
_BEFORE_END = re.compile(r"""\s([.,:;?!%]+)(?=[\s'"`]|$)""")
_OPENED, _CLOSED = re.compile(r"\s([\[({<])\s"), re.compile(r"\s([\])}>])\s")


def views(
    text: str, count: int, seed: int = 0, *, aug_max: int | None = MOST, compat: str = ""
) -> tuple[str, ...]:
    """Disturbed copies of a text, each drawn from (seed, text, its number): more views leave the first as they are.

    Args:
        aug_max: the most words of a stage, so that a long text is disturbed less than a short one; None: no such bound.
        compat: "reference" puts what str() makes of a list with the text, brackets and quotes, in its place, as the
            code of the paper did.

    Raises:
        BadInput: for a count below 0 or an aug_max below 1. UnknownName: for an unknown compat.
    """
    if count < 0 or (aug_max is not None and aug_max < 1):
        raise BadInput(f"count={count} is 0 or more, and aug_max={aug_max} at least 1, or None for no bound")
    if compat not in COMPATS:
        raise UnknownName("compat", compat, COMPATS)
    found = [augmented(text, drawn(seed, text, view), aug_max) for view in range(count)]
    return tuple(str([one]) if compat else one for one in found)


def drawn(seed: int, text: str, number: int) -> Draw:
    """The random stream of one view of one text."""
    digest = hashlib.sha256(f"{seed}\0{number}\0{text}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def augmented(text: str, draw: Draw, aug_max: int | None = MOST) -> str:
    """The three stages, one after the other; each takes the text apart anew."""
    for stage in (split_words, substitute, mistype):
        text = stage(text, draw, aug_max)
    return text


def split_words(text: str, draw: Draw, aug_max: int | None = MOST) -> str:
    """Puts a space into some words of 4 characters or more: into `round` as `ro und`, never before the last one."""

    def split(word: str) -> str:
        at = int(draw.integers(1, len(word) - 1))
        return f"{word[:at]} {word[at:]}"

    return _changed(text, draw, aug_max, split)


def substitute(text: str, draw: Draw, aug_max: int | None = MOST) -> str:
    """Replaces characters of some words by letters, digits or signs, each as likely; one may meet itself."""
    return _changed(text, draw, aug_max, lambda word: _characters(word, draw, lambda _: RANDOM))


def mistype(text: str, draw: Draw, aug_max: int | None = MOST) -> str:
    """Replaces characters of some words by a neighbour on a QWERTY keyboard; those that are not on it stay."""
    return _changed(text, draw, aug_max, lambda word: _characters(word, draw, lambda c: KEYBOARD.get(c, "")))


def tokens(text: str) -> list[str]:
    """Words and single signs; blanks are dropped."""
    return [piece for piece in _WORDS.split(text) if piece.strip()]


def joined(pieces: Sequence[str]) -> str:
    """Pieces with a space between, taken out again before the end of a sentence and inside brackets."""
    text = _BEFORE_END.sub(r"\1", " ".join(pieces))
    return _CLOSED.sub(r"\1 ", _OPENED.sub(r" \1", text)).strip()


def _changed(text: str, draw: Draw, aug_max: int | None, change: Callable[[str], str]) -> str:
    """The text with `change` done to its share of words, drawn among those long enough."""
    pieces = tokens(text)
    able = [k for k, piece in enumerate(pieces) if len(piece) >= SHORTEST]
    if not able:
        return joined(pieces)
    for k in draw.choice(able, min(_count(len(pieces), aug_max), len(able)), replace=False):
        pieces[k] = change(pieces[k])
    return joined(pieces)


def _characters(word: str, draw: Draw, options: Callable[[str], str]) -> str:
    letters = list(word)
    able = [k for k, letter in enumerate(letters) if options(letter)]
    if not able:
        return word
    for k in draw.choice(able, min(_count(len(word), MOST), len(able)), replace=False):
        choices = options(letters[k])
        letters[k] = choices[int(draw.integers(len(choices)))]
    return "".join(letters)


def _count(size: int, most: int | None) -> int:
    """How many of `size` are changed: their share, rounded down, at least FEWEST and at most `most`."""
    found = max(int(SHARE * size), FEWEST)
    return found if most is None else min(found, most)


def _keyboard() -> dict[str, str]:
    """Key -> the keys around it on a square grid, shifted ones and capitals included, and its own shifted sign."""
    place = {key: (row, k) for row, keys in enumerate(_ROWS) for k, key in enumerate(keys)}
    found: dict[str, str] = {}
    for key, (row, column) in place.items():
        near = [
            other
            for other, (r, c) in place.items()
            if other != key and max(abs(r - row), abs(c - column)) == 1
        ]
        signs = "".join(one + _SHIFTED.get(one, one.upper()) for one in near)
        found[key] = signs + _SHIFTED.get(key, "")
        found[_SHIFTED.get(key, key.upper())] = signs + (key if key in _SHIFTED else "")
    return found


KEYBOARD: Mapping[str, str] = _keyboard()
"""What a slip of the finger makes of a character."""


def noisy(text: str, kind: str, rate: float = 0.1, seed: int = 0) -> str:
    """A text with one kind of noise at one rate; the same for the same text, kind, rate and seed.

    Args:
        kind: `typing` (each character becomes a neighbour on the keyboard), `casing` (each letter turns its case),
            `whitespace` (each space is dropped or doubled), `punctuation` (each sign is dropped), `words` (each word is
            dropped; one stays). rate: the probability of each.

    Raises:
        UnknownName: for an unknown kind. BadInput: for a rate outside 0 .. 1.
    """
    if kind not in NOISES:
        raise UnknownName("noise", kind, NOISES)
    if not 0 <= rate <= 1:
        raise BadInput(f"rate={rate} is a probability, 0 to 1")
    return NOISES[kind](text, rate, drawn(seed, f"{kind} {text}", 0))


def drop_ids(ids: Sequence[int], rate: float, seed: int = 0) -> tuple[int, ...]:
    """Token ids each left out with probability `rate`, the first one kept."""
    keep = drawn(seed, " ".join(map(str, ids)), 0).random(len(ids)) >= rate
    return tuple(one for k, one in enumerate(ids) if keep[k] or k == 0)


def _typing(text: str, rate: float, draw: Draw) -> str:
    def slip(letter: str) -> str:
        near = KEYBOARD.get(letter, "")
        return near[int(draw.integers(len(near)))] if near and draw.random() < rate else letter

    return "".join(slip(letter) for letter in text)


def _casing(text: str, rate: float, draw: Draw) -> str:
    return "".join(c.swapcase() if draw.random() < rate else c for c in text)


def _whitespace(text: str, rate: float, draw: Draw) -> str:
    return "".join(
        ("", c * 2)[int(draw.integers(2))] if c == " " and draw.random() < rate else c for c in text
    )


def _punctuation(text: str, rate: float, draw: Draw) -> str:
    return "".join(c for c in text if c.isalnum() or c.isspace() or draw.random() >= rate)


def _words(text: str, rate: float, draw: Draw) -> str:
    words = text.split()
    kept = [word for word in words if draw.random() >= rate]
    return " ".join(kept or words[:1])


NOISES: Mapping[str, Callable[[str, float, Draw], str]] = {
    "typing": _typing,
    "casing": _casing,
    "whitespace": _whitespace,
    "punctuation": _punctuation,
    "words": _words,
}
"""Kind of noise -> what makes it, from (text, rate, stream)."""
