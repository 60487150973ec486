"""Parsed sentences: CoNLL-U files, whose words are found again in the raw text of their sentence.

Ten columns a word (Universal Dependencies, format v2). Lines of multi-word tokens (`3-4`) give their words a common
stretch of text, empty nodes (`5.1`) are no words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from depthscope.errors import BadInput, EmptyMaterial

COLUMNS = 10
ROOT = -1
"""The head of a word that depends on no other."""


@dataclass(frozen=True)
class ParsedWord:
    """Characters start..stop of a sentence, the number of the word's head (ROOT for none) and their relation."""

    start: int
    stop: int
    head: int
    label: str


@dataclass(frozen=True)
class Parse:
    """A sentence with its words in order."""

    name: str
    text: str
    words: tuple[ParsedWord, ...]

    def relations(self) -> set[str]:
        """All labels, and those with a subtype also without it: `nmod:poss` counts as `nmod` too."""
        return {part for w in self.words for part in versions(w.label)}


def versions(label: str) -> tuple[str, ...]:
    """A label as it stands and, where it has a subtype, without it."""
    plain = label.partition(":")[0]
    return (label,) if plain == label else (plain, label)


def parses(content: str, where: str) -> list[Parse]:
    """All sentences of a CoNLL-U file.

    Raises:
        BadInput: for a line that is not as the format says, with its number.
        EmptyMaterial: for a file without a sentence.
    """
    found = [_parse(lines, where, number) for number, lines in enumerate(_blocks(content), start=1)]
    if not found:
        raise EmptyMaterial(f"{where} holds no sentence; a CoNLL-U file is expected")
    return found


def _blocks(content: str) -> Iterator[list[tuple[int, str]]]:
    """Lines of one sentence each, with their numbers; the last needs no empty line behind it."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _parse(lines: Sequence[tuple[int, str]], where: str, number: int) -> Parse:
    said = dict(_comment(line) for _, line in lines if line.startswith("#"))
    rows = [(k, line.split("\t")) for k, line in lines if not line.startswith("#")]
    for k, row in rows:
        if len(row) != COLUMNS:
            raise BadInput(
                f"{where} line {k} has {len(row)} columns with tabs between them; CoNLL-U has {COLUMNS}"
            )
    text = said.get("text") or _written(rows)
    spans = _spans(rows, text, where)
    words = [(k, row) for k, row in rows if row[0].isdigit()]
    found = tuple(ParsedWord(*spans[row[0]], _head(row, len(words), where, k), row[7]) for k, row in words)
    return Parse(said.get("sent_id", f"sentence-{number:05d}"), text, found)


def _comment(line: str) -> tuple[str, str]:
    name, _, value = line[1:].partition("=")
    return name.strip(), value.strip()


def _written(rows: Sequence[tuple[int, list[str]]]) -> str:
    """The text of a sentence that does not give it: surface tokens with a space between them unless told otherwise."""
    tokens = _surface(rows)
    return "".join(row[1] + ("" if "SpaceAfter=No" in row[9] else " ") for _, row in tokens).rstrip()


def _surface(rows: Sequence[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Multi-word tokens, and the words that are in none."""
    inside: set[str] = set()
    for _, row in rows:
        first, dash, last = row[0].partition("-")
        if dash and first.isdigit() and last.isdigit():
            inside.update(map(str, range(int(first), int(last) + 1)))
    return [(k, row) for k, row in rows if "-" in row[0] or (row[0].isdigit() and row[0] not in inside)]


def _spans(rows: Sequence[tuple[int, list[str]]], text: str, where: str) -> dict[str, tuple[int, int]]:
    """Word id -> its characters. Words of a multi-word token that do not spell it share all of its characters."""
    forms = {row[0]: row[1] for _, row in rows}
    found: dict[str, tuple[int, int]] = {}
    end = 0
    for k, (name, form, *_) in _surface(rows):
        start = text.find(form, end)
        if start < 0 or text[end:start].strip():
            raise BadInput(f"{where} line {k}: {form!r} is not the next word of {text[end : end + 30]!r}")
        end = start + len(form)
        first, dash, last = name.partition("-")
        inside = [str(i) for i in range(int(first), int(last) + 1)] if dash else [name]
        parts = [forms.get(i, "") for i in inside]
        if "".join(parts) == form:
            begins = [start + sum(map(len, parts[:i])) for i in range(len(parts))]
            found |= {i: (b, b + len(p)) for i, b, p in zip(inside, begins, parts, strict=True)}
        else:
            found |= dict.fromkeys(inside, (start, end))
    return found


def _head(row: Sequence[str], n_words: int, where: str, line: int) -> int:
    if not row[6].isdigit() or int(row[6]) > n_words or row[6] == row[0]:
        raise BadInput(
            f"{where} line {line}: the head of {row[1]!r} is {row[6]!r}; it is 0 to {n_words}, not itself"
        )
    return int(row[6]) - 1
