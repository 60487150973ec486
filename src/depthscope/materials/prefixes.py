"""Prefixes: random beginnings of paragraphs, of which only the last position is decoded.

The protocol of the paper: a random article, in it a random paragraph of more than 200 characters without an inner line
break, cut after a random word. An article counts the same whatever its length.
Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), section 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.data import data_path
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.text import Document, read
from depthscope.materials.window import Window, Windows
from depthscope.runtime.model import Model

PARAGRAPH = 200
"""Paragraphs of more characters are cut into prefixes."""
SHORTEST = 17
"""Characters of a prefix at least."""
LONGEST = 1024
"""Tokens of a prefix at most; longer ones, or longer than the model has positions, are left out."""
_TRIES = 20
_SALT = 0x5EED_0F_93EF


@dataclass(frozen=True)
class Prefixes:
    """Random prefixes of a text, one marked position each.

    Args:
        source: as for the run's text; "" for the packaged sample. prompts: how many to draw, all different;
            fewer where the text has no more.
    """

    source: str = ""
    prompts: int = 1000

    @property
    def name(self) -> str:
        """The file of ids."""
        return "prefixes"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a prefix: what stands before a text, then the prefix; its last position is marked.

        Raises:
            BadInput: for less than one prompt. EmptyMaterial: when no paragraph is long enough.
        """
        if self.prompts < 1:
            raise BadInput(f"{self.prompts} prompts leave nothing to read; give 1 or more")
        local = bool(self.source) and not self.source.startswith("hub:")
        where, documents = read(data_path(self.source) if local else self.source or None)
        paragraphs = [(d.name, found) for d in documents if (found := _paragraphs(d))]
        if not paragraphs:
            raise EmptyMaterial(
                f"{where} has no paragraph of more than {PARAGRAPH} characters without a line break; give running text"
            )
        before, _, words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))
        longest = min(LONGEST, getattr(model.config, "max_position_embeddings", None) or LONGEST)
        items: list[Window] = []
        for document, text in _drawn(paragraphs, _TRIES * self.prompts, seed):
            ids = (*before, *plain_ids(model.tokenizer, text))
            if len(ids) <= longest:
                items.append(Window(len(items), document, ids, (len(ids) - 1,)))
            if len(items) == self.prompts:
                break
        return Windows(tuple(items), f"{len(items)} random prefixes of {where}", words, 0)


def _paragraphs(document: Document) -> list[str]:
    """Paragraphs long enough, without inner line breaks and without the space around them."""
    parts = (part.strip() for part in re.split(r"\n\s*\n", document.text))
    return [part for part in parts if len(part) > PARAGRAPH and "\n" not in part]


def _drawn(articles: Sequence[tuple[str, Sequence[str]]], tries: int, seed: int) -> Iterator[tuple[str, str]]:
    """(article, prefix), all different; fewer than tries, since some give what was there before."""
    rng = np.random.default_rng([seed, _SALT])
    seen: set[str] = set()
    for _ in range(tries):
        name, paragraphs = articles[int(rng.integers(len(articles)))]
        paragraph = paragraphs[int(rng.integers(len(paragraphs)))]
        ends = [m.end() for m in re.finditer(r"\S+", paragraph) if SHORTEST <= m.end() < len(paragraph)]
        prefix = paragraph[: ends[int(rng.integers(len(ends)))]] if ends else ""
        if prefix and prefix not in seen:
            seen.add(prefix)
            yield name, prefix
