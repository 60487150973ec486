"""Parsed sentences as windows: one sentence each, with the word of every token and the dependencies of its words.

Where parses come from: a CoNLL-U file (gold), a text that spaCy parses, the packaged sentences, or the synthetic
agreement grammar, whose generator knows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial, MissingPackage, Refused
from depthscope.materials.agreement import SOURCE, AgreementGrammar
from depthscope.materials.conllu import ROOT, Parse, ParsedWord, parses, versions
from depthscope.materials.data import data_path
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.spelling import Span, grown_offsets, text_of
from depthscope.materials.taggers import INSTALL, SPACY_MODEL
from depthscope.materials.text import read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import check_names

if TYPE_CHECKING:
    from depthscope.runtime.model import Model

PACKAGED = "parses.conllu"
PARSERS = ("gold", "spacy")
NO_WORD = -1


@dataclass(frozen=True)
class Parses:
    """Sentences with their dependencies.

    Args:
        source: a CoNLL-U file by path (`materials.data.data_path`); "" for the packaged sentences; "agreement" for the
            synthetic grammar. With the parser spacy a text (.txt, .jsonl, a folder), "" for the packaged sample.
        parser: "gold" reads the dependencies of the file, "spacy" makes them. sentences: how many, drawn by seed; 0
            takes all. fewest, most: words of a sentence. relations: labels that must occur.
    """

    source: str = ""
    parser: str = "gold"
    sentences: int = 0
    fewest: int = 3
    most: int = 60
    relations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names(self, parser=PARSERS)

    @property
    def name(self) -> str:
        """The name of the material."""
        return "parses"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a sentence, marked at its end; `about` holds words (of each token), starts, heads and labels.

        A token that touches two words counts for the first; a sentence in which a word has no token is dropped, as is
        one that does not fit into the model, and `source` says how many were.

        Raises:
            BadInput: when a relation that must occur does not. EmptyMaterial: when no sentence is left.
            Refused: for a tokenizer without offsets. MissingPackage: for spaCy where it is not installed.
        """
        where, found = parsed(self.source, self.parser, 4 * self.sentences)
        self._check(where, found)
        fits = [p for p in found if self.fewest <= len(p.words) <= self.most]
        order = np.random.default_rng(seed).permutation(len(fits))
        before, after, words = edges(model.tokenizer, "auto", model.config.model_type)
        items: list[Window] = []
        dropped = 0
        for k in order.tolist():
            window = _window(len(items), fits[k], model, before, after)
            if window is None:
                dropped += 1
            else:
                items.append(window)
            if self.sentences and len(items) == self.sentences:
                break
        if not items:
            raise EmptyMaterial(
                f"{where}: none of {len(found)} sentences has {self.fewest} to {self.most} words, each "
                "with a token of its own"
            )
        told = f", {dropped} sentences with a word without a token left out" if dropped else ""
        return Windows(tuple(items), f"{where}: {len(items)} sentences{told}", words, 0)

    def _check(self, where: str, found: Sequence[Parse]) -> None:
        there = set[str]().union(*(p.relations() for p in found))
        lacking = [r for r in self.relations if r not in there]
        if lacking:
            raise BadInput(f"{where} has no relation {', '.join(lacking)}; it has {', '.join(sorted(there))}")


def parsed(source: str, parser: str, most: int = 0) -> tuple[str, list[Parse]]:
    """Where parses come from, in words, and the parses; of a text that spaCy parses the first `most`, 0 takes all."""
    if parser == "spacy":
        where, documents = read(data_path(source) if source else None)
        return f"{where} by spaCy", list(
            islice(_spacy_parses((d.name, d.text) for d in documents), most or None)
        )
    if source == SOURCE:
        return "agreement grammar", [s.parse for s in AgreementGrammar().sentences(400, seed=1)]
    if not source:
        raw = (
            resources.files("depthscope.materials")
            .joinpath(f"packaged/{PACKAGED}")
            .read_text(encoding="utf-8")
        )
        return f"packaged {PACKAGED}", parses(raw, PACKAGED)
    path = data_path(source)
    try:
        return path.name, parses(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as CoNLL-U in UTF-8: {error}") from error


def _spacy_parses(texts: Iterator[tuple[str, str]]) -> Iterator[Parse]:
    try:
        import spacy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage("the parser spacy", INSTALL) from error
    there = [m for m in sorted(spacy.util.get_installed_models()) if m.startswith((SPACY_MODEL, "en_"))]
    if not there:
        raise MissingPackage(f"the spaCy pipeline {SPACY_MODEL!r}", INSTALL)
    pipeline = spacy.load(there[0], exclude=["ner", "lemmatizer", "attribute_ruler"])
    for name, text in texts:
        for number, sentence in enumerate(pipeline(text).sents):
            found = _spacy_parse(f"{name}#{number:05d}", sentence)
            if found.words:
                yield found


def _spacy_parse(name: str, sentence: Any) -> Parse:  # noqa: ANN401  (a span of spaCy)
    """White space is no word; a word whose head is white space is a root."""
    tokens = [t for t in sentence if not t.is_space]
    begin = tokens[0].idx if tokens else 0
    place = {t.i: k for k, t in enumerate(tokens)}
    words = tuple(
        ParsedWord(
            t.idx - begin,
            t.idx - begin + len(t),
            ROOT if t.head.i == t.i else place.get(t.head.i, ROOT),
            t.dep_,
        )
        for t in tokens
    )
    stop = words[-1].stop if words else 0
    return Parse(name, sentence.doc.text[begin : begin + stop], words)


def _window(index: int, parse: Parse, model: Model, before: list[int], after: list[int]) -> Window | None:
    ids, spans = token_spans(model.tokenizer, parse.text)
    words = word_of_token(spans, [(w.start, w.stop) for w in parse.words])
    longest = getattr(model.config, "max_position_embeddings", None) or 10**9
    every = (*before, *ids, *after)
    if set(words) - {NO_WORD} != set(range(len(parse.words))) or not 2 <= len(every) <= longest:
        return None
    about = {
        "words": [*[NO_WORD] * len(before), *words, *[NO_WORD] * len(after)],
        "heads": [w.head for w in parse.words],
        "labels": [list(versions(w.label)) for w in parse.words],
        "spelt": [parse.text[w.start : w.stop] for w in parse.words],
    }
    return Window(index, parse.name, every, (len(every) - 1,), about)


def token_spans(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:  # noqa: ANN401
    """Ids of a text without special tokens, and the characters of the text that each touches.

    A fast tokenizer names them. Otherwise the ids are decoded one more at a time, which needs a tokenizer that writes
    as many characters as it has read (it may lower them).

    Raises:
        Refused: when it does not.
    """
    if getattr(tokenizer, "is_fast", False):
        read_ = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(read_["input_ids"]), [(a, b) for a, b in read_["offset_mapping"]]
    ids = plain_ids(tokenizer, text)
    again = text_of(tokenizer, ids)
    if len(again) != len(text):
        raise Refused(
            f"tokenizer without offsets: {type(tokenizer).__name__} writes {text[:30]!r} as {again[:30]!r}, so words "
            "cannot be found in its tokens; use a fast tokenizer"
        )
    return ids, grown_offsets(tokenizer, again, ids)


def word_of_token(spans: Sequence[Span], words: Sequence[Span]) -> list[int]:
    """The number of the first word that each token touches, NO_WORD for none."""
    return [
        next((k for k, (start, stop) in enumerate(words) if a < stop and start < b), NO_WORD)
        for a, b in spans
    ]
