"""Word prompts: for each class of words, beginnings of lines that end just before the line's first word of that class.

This is the protocol of "How Do LLMs Use Their Depth?" (arXiv 2510.18871): tokens of the tagger joined by single spaces,
at least 17 characters. It is biased: a prompt of a class holds no earlier word of that class, and its punctuation
stands apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.errors import EmptyMaterial
from depthscope.materials.data import data_path
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.taggers import TAGS, Tagger, tagger
from depthscope.materials.text import Document, read
from depthscope.materials.window import Window, Windows
from depthscope.runtime.model import Model

CHARACTERS, LONGEST = 17, 256
"""A prompt has at least so many characters, and at most so many tokens."""


@dataclass(frozen=True)
class WordPrompts:
    """Prompts before the first word of a class in a line of text.

    Args:
        tagger, tags: see `materials.taggers.tagger`. source: where the text is; "" is the packaged sample.
        limit: prompts of each class.
    """

    tagger: str = "lexicon"
    tags: str = ""
    source: str = ""
    limit: int = 100

    @property
    def name(self) -> str:
        """The name of the material."""
        return "word_prompts"

    def windows(self, model: Model, seed: int) -> Windows:
        """Lines in random order, each giving a prompt to every class that still wants one; marked at the last token.

        A window's `about` holds `word_class`, the `word`, and `answers`: the first token of the word, with and without
        a space before it. Its unit is the document.

        Raises:
            EmptyMaterial: when no line gives a prompt.
        """
        name, documents = read(data_path(self.source) if self.source else None)
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        wanted = dict.fromkeys(TAGS[self.tagger], self.limit)
        items: list[Window] = []
        for document, tag, prompt, word in _prompts(documents, tagger(self.tagger, self.tags), seed):
            ids = (*before, *plain_ids(model.tokenizer, prompt))
            if not wanted[tag] or len(ids) > LONGEST:
                continue
            wanted[tag] -= 1
            first = sorted({plain_ids(model.tokenizer, space + word)[0] for space in (" ", "")})
            about = {"word_class": tag, "word": word, "answers": first}
            items.append(Window(len(items), document, ids, (len(ids) - 1,), about))
        if not items:
            raise EmptyMaterial(
                f"{name} has no line with {CHARACTERS} characters before a word of any class; give running text"
            )
        return Windows(tuple(items), f"{name}, first words of a class", words, 0)


def _prompts(
    documents: Sequence[Document], found_by: Tagger, seed: int
) -> Iterator[tuple[str, str, str, str]]:
    """(document, class, prompt, word) of each line and class, lines in random order."""
    lines = [(d.name, line) for d in documents for line in d.text.splitlines() if len(line) > CHARACTERS]
    for k in np.random.default_rng(seed).permutation(len(lines)):
        document, line = lines[k]
        words = [(line[w.start : w.stop], w.tag) for w in found_by.words(line, document)]
        known = set[str]()
        for place, (word, tag) in enumerate(words):
            prompt = " ".join(w for w, _ in words[:place])
            if tag not in known and len(prompt) >= CHARACTERS:
                yield document, tag, prompt, word
            known.add(tag)
