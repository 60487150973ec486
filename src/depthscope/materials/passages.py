"""Passages: the beginnings of paragraphs, each of as many words, and disturbed views of them.

Cut in words and not in tokens, so that every model reads the same texts and two models can be compared text by text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest

from depthscope.errors import EmptyMaterial
from depthscope.materials.augment import joined, tokens, views
from depthscope.materials.data import data_path
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.text import Document, read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

SHORTEST = 8
"""Words a paragraph needs, or `words` where that is less."""


@dataclass(frozen=True)
class Passages:
    """Paragraphs of a source, every document's first before any second one, each text once.

    Args:
        source: a file or folder of texts, see `materials.text.read` and `materials.data.data_path`; "" is the packaged
            sample. texts: how many passages at most. words: words of each, from the start of a paragraph.
        views: disturbed copies of each that are read in its place; 0 reads the passage itself.
        aug_max: see `materials.augment.views`; 0: no bound.
        compat: see `materials.augment.views`.
    """

    source: str = ""
    texts: int = 128
    words: int = 32
    views: int = 0
    aug_max: int = 10
    compat: str = ""

    def __post_init__(self) -> None:
        check_ranges(self, texts=at_least(2), words=at_least(1), views=at_least(0), aug_max=at_least(0))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "views" if self.views else "passages"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a passage or view; `about` holds the passage's number and key, `view`, and whether it `changed`.

        What is longer than the model can read is cut, the ids behind a text kept. Documents are the units.

        Raises:
            What `read` raises.
        """
        name, found = self.read()
        before, after, said = edges(model.tokenizer, "auto", model.config.model_type)
        room = (getattr(model.config, "max_position_embeddings", None) or 10**6) - len(before) - len(after)
        items: list[Window] = []
        dropped = 0
        for number, (document, passage) in enumerate(found):
            for view, text in enumerate(self._views(passage, seed)):
                ids = plain_ids(model.tokenizer, text)
                dropped += max(0, len(ids) - room)
                changed = text != joined(tokens(passage))
                about = {"text": number, "view": view, "key": key(passage), "changed": changed}
                items.append(Window(len(items), document, (*before, *ids[:room], *after), (), about))
        return Windows(tuple(items), f"{name}, {len(found)} passages", said, dropped)

    def read(self) -> tuple[str, list[tuple[str, str]]]:
        """Where passages come from, in words, and (document, passage) of each.

        Raises:
            EmptyMaterial: with fewer than 2 passages. What reading the source raises.
        """
        name, documents = read(data_path(self.source) if self.source else None)
        found = list(islice(self._passages(documents), self.texts))
        if len(found) < 2:
            raise EmptyMaterial(
                f"{name} has {len(found)} different paragraphs of {min(SHORTEST, self.words)} words or more; at "
                "least 2 are needed"
            )
        return name, found

    def _views(self, passage: str, seed: int) -> tuple[str, ...]:
        if not self.views:
            return (passage,)
        return views(passage, self.views, seed, aug_max=self.aug_max or None, compat=self.compat)

    def _passages(self, documents: list[Document]) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        for turn in zip_longest(*(self._paragraphs(document) for document in documents)):
            for document, passage in (pair for pair in turn if pair is not None):
                if passage not in seen:
                    seen.add(passage)
                    yield document, passage

    def _paragraphs(self, document: Document) -> Iterator[tuple[str, str]]:
        """(document, beginning) of each paragraph that is no heading and long enough."""
        for line in document.text.split("\n"):
            text = line.strip()
            words = text.split()
            heading = text.startswith("=") and text.endswith("=")
            if len(words) >= min(SHORTEST, self.words) and not heading:
                yield document.name, " ".join(words[: self.words])


def key(text: str) -> int:
    """A number of 53 bits (exact in JSON) that names a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") >> 3
