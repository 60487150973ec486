"""Words: tagged stretches of a text, and the word that each token starts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from depthscope.errors import BadInput
from depthscope.materials.spelling import Spelled

CONT, MULTI, SPACE, SPECIAL, CUT = "CONT", "MULTI", "SPACE", "SPECIAL", "CUT"
NO_WORD = (CONT, MULTI, SPACE, SPECIAL, CUT)
"""What a token is called that starts no word: it continues one, touches several, spells only white space, is special,
or starts a word that the end of the window may have cut."""


@dataclass(frozen=True)
class Word:
    """Characters start..stop of a text, and their tag."""

    start: int
    stop: int
    tag: str


def token_labels(spelling: Spelled, words: Sequence[Word]) -> list[str]:
    """The tag of the word that each token starts, or one of NO_WORD; one label a token.

    A token starts a word when its first character that is no white space is the word's first one, and no earlier token
    touches that character. A token that touches two words has no tag, whether or not it starts the first of them.

    Raises:
        BadInput: when the words overlap or leave characters out that are no white space.
    """
    checked(spelling.text, words)
    starts, stops = [w.start for w in words], [w.stop for w in words]
    labels, covered = list[str](), 0
    for number, (start, stop) in enumerate(spelling.spans):
        begin = max(start, covered)
        if number in spelling.special:
            label = SPECIAL
        elif begin >= stop > start:
            label = CONT  # goes on within a character that an earlier token began
        else:
            label = _label(spelling.text, begin, stop, words, starts, stops)
        labels.append(label)
        covered = max(covered, stop)
    return labels


def _label(
    text: str, begin: int, stop: int, words: Sequence[Word], starts: list[int], stops: list[int]
) -> str:
    lead = begin + len(text[begin:stop]) - len(text[begin:stop].lstrip())
    if lead >= stop:
        return SPACE
    first, beyond = bisect_right(stops, lead), bisect_left(starts, stop)
    if beyond - first > 1:
        return MULTI
    word = words[first]
    if word.start != lead:
        return CONT
    return CUT if word.stop == len(text) else word.tag


def checked(text: str, words: Sequence[Word]) -> None:
    """Nothing, where the words are in order, apart, and hold every character that is no white space.

    Raises:
        BadInput: otherwise, with the first characters that are not as they should be.
    """
    end = 0
    for word in [*words, Word(len(text), len(text) + 1, "")]:
        if word.start < end or word.stop <= word.start:
            raise BadInput(f"words must follow one another: {text[word.start : end]!r} is in two of them")
        if text[end : word.start].strip():
            raise BadInput(
                f"no word holds {text[end : word.start].strip()[:40]!r}; every character needs one"
            )
        end = word.stop
