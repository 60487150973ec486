"""Words of a task by how often they are met: frequent ones, rare ones, and invented ones that nobody has met.

An invented word has a right answer only where a rule gives it: capital letters, an ending, a place in a list. Rules are
found in a task's own pairs. Invented words end in two consonants, so that endings are added without any other change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput
from depthscope.materials.data import data_path
from depthscope.materials.icl_tasks import Asking, Pair

ONSETS = (
    "b", "bl", "br", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "m", "n", "p", "pl", "pr",
    "s", "sl", "sm", "sn", "sp", "st", "t", "tr", "v", "w",
)  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u")
MIDDLES = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "t", "v", "z")
ENDS = ("ft", "lk", "lm", "lp", "lt", "mp", "nd", "nk", "nt", "pt", "rk", "rm", "rp", "rt", "sk", "sp")
LAWFUL = 0.5
"""A rule holds for a task where it gives at least this share of its answers."""
LIST = 3
"""Words in an invented list."""


@dataclass(frozen=True)
class Rule:
    """What answers follow.

    Args:
        name: in words. says: the answer to an input. asks: an input made of some words.
    """

    name: str
    says: Callable[[str], str]
    asks: Callable[[Sequence[str]], str]


def _word(words: Sequence[str]) -> str:
    return words[0]


def _capital(words: Sequence[str]) -> str:
    return words[0].capitalize()


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)


def _at(place: int) -> Callable[[str], str]:
    return lambda text: re.split(r",\s*", text)[place]


def _ending(end: str) -> Callable[[str], str]:
    return lambda text: text + end


RULES = (
    Rule("a capital letter", lambda text: text[:1].upper() + text[1:], _word),
    Rule("capital letters", str.upper, _word),
    Rule("small letters", str.lower, _capital),
    *(Rule(f"the ending -{end}", _ending(end), _word) for end in ("s", "ed", "ing", "er")),
    Rule("the first of a list", _at(0), _listed),
    Rule("the last of a list", _at(-1), _listed),
    Rule("the first of a list with a capital", lambda text: _at(0)(text).capitalize(), _listed),
    Rule("the last of a list with a capital", lambda text: _at(-1)(text).capitalize(), _listed),
)


def rule_of(pairs: Sequence[Pair]) -> tuple[Rule | None, float]:
    """The rule that gives most answers of a task, and their share; None where it gives less than half of them.

    A rule that changes nothing about an input does not count for it: a word that has its capital already, a list of
    one.
    """
    changed = {rule: [(x, y) for x, y in pairs if rule.says(x) != x] for rule in RULES}
    share = {
        rule: sum(rule.says(x) == y for x, y in told) / max(1, len(pairs)) for rule, told in changed.items()
    }
    best = max(RULES, key=lambda rule: share[rule])
    return (best if share[best] >= LAWFUL else None), share[best]


def invented(count: int, seed: int, known: Sequence[str] = ()) -> list[str]:
    """Words of two syllables that sound like words and are none of `known`; equal for equal seeds."""
    rng, found = np.random.default_rng([seed, 6]), dict[str, None]()
    taken = set(known)
    while len(found) < count:
        parts = (ONSETS, VOWELS, MIDDLES, VOWELS, ENDS)
        word = "".join(part[int(rng.integers(len(part)))] for part in parts)
        if word not in taken:
            found[word] = None
    return list(found)


def invented_pairs(rule: Rule, count: int, seed: int, known: Sequence[str] = ()) -> list[Pair]:
    """Inputs of invented words, and what the rule says of them."""
    words = invented(LIST * count, seed, known)
    inputs = [rule.asks(words[LIST * k : LIST * (k + 1)]) for k in range(count)]
    return [(text, rule.says(text)) for text in inputs]


def word_counts(source: str) -> Mapping[str, int]:
    """How often words occur, small and large letters as one; none for "".

    Args:
        source: a file whose lines are a word, a tab and a count; further columns are not read, nor is a first line
            without a number.

    Raises:
        BadInput: for a file without such lines.
    """
    found = Counter[str]()
    if not source:
        return found
    path = data_path(source)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} cannot be read as a table of words: {error}") from error
    for line in lines:
        word, _, rest = line.partition("\t")
        number = rest.partition("\t")[0].strip()
        if number.isdigit():
            found[word.strip().lower()] += int(number)
    if not found:
        raise BadInput(f"{path.name} holds no line of a word, a tab and a count")
    return found


def by_frequency(pairs: Sequence[Pair], counts: Mapping[str, int], asking: Asking) -> list[Pair]:
    """Pairs by their inputs, frequent ones first: by the rarest word of each, and by tokens where counts are equal.

    Words of fewer tokens, and then of smaller ids, are taken as more frequent: tokenizers merge what is frequent first.
    """
    return sorted(pairs, key=lambda pair: (-rarest(pair[0], counts), *_spelled(pair[0], asking), pair))


def rarest(text: str, counts: Mapping[str, int]) -> int:
    """The count of the rarest word of a text; 0 where one is not in the table."""
    words = re.findall(r"\w+", text.lower())
    return min((counts.get(word, 0) for word in words), default=0)


def _spelled(text: str, asking: Asking) -> tuple[int, int]:
    ids = asking.within(text)
    return len(ids), max(ids)
