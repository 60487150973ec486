"""Texts in which sinks are looked for: natural ones, random tokens and one token repeated, with and without a start.

All windows have the same length T, the start token counted in, so that a key's mean attention is over equally many
queries everywhere. Source: Gu et al. 2025 (arXiv 2410.10781), section on inputs: natural, random and repeated tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.data import text_source
from depthscope.materials.edges import edges
from depthscope.materials.extremes import LOWEST, vocabulary
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.text import Document, read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

KINDS = ("natural", "random", "repeated")
STARTS = ("start", "none")
"""With a start token in front, and without."""
SEPARATOR = "<|endoftext|>"
"""What stands between documents where a tokenizer puts nothing in front by itself."""
_SALT = 0x51_4C_57


@dataclass(frozen=True)
class SinkTexts:
    """Windows of T tokens of every kind, with and without a start token.

    Args:
        source: as for the run's text; "" for the packaged sample. texts: natural windows; controls: random ones, and
            repeated ones. length: T.
    """

    source: str = ""
    texts: int = 100
    controls: int = 24
    length: int = 64

    def __post_init__(self) -> None:
        check_ranges(
            self,
            texts=at_least(1),
            controls=at_least(0),
            length=at_least(12, what="tokens, the last 8 left out"),
        )

    @property
    def name(self) -> str:
        """The file of ids."""
        return "sink-texts"

    def windows(self, model: Model, seed: int) -> Windows:
        """Every text twice; `about` says kind and start, and that attention rows are wanted at all positions.

        Raises:
            EmptyMaterial: where no text is long enough. BadInput: for more tokens than the model has positions.
        """
        limit = int(getattr(model.config, "max_position_embeddings", None) or 10**9)
        if self.length > limit:
            raise BadInput(f"length={self.length}: {model.name} has {limit} positions; give a shorter one")
        before, after, words = start_tokens(model)
        where, documents = read(text_source(self.source))
        natural = list(_chunks(model.tokenizer, documents, self.length, self.texts))
        if not natural:
            raise EmptyMaterial(
                f"{where} has no text of {self.length} tokens; give longer texts or a smaller length"
            )
        drawn = _drawn(vocabulary(model), self.controls, self.length, seed)
        items: list[Window] = []
        for kind, name, ids in (*natural, *drawn):
            for start in STARTS if before else STARTS[1:]:
                edged = (*before, *ids, *after) if start == "start" else tuple(ids)
                kept = (
                    (*edged[: self.length - len(after)], *after) if start == "start" else edged[: self.length]
                )
                about = {"kind": kind, "start": start, "queries": list(range(self.length))}
                items.append(Window(len(items), name, tuple(kept), (), about))
        said = f"{len(natural)} windows of {where}, {self.controls} of random ids and {self.controls} of one repeated"
        return Windows(tuple(items), said, words, 0)


def start_tokens(model: Model) -> tuple[list[int], list[int], str]:
    """What stands before and behind a text that has a start: what the tokenizer puts there, else a separator or BOS."""
    before, after, words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))
    if before:
        return before, after, f"with and without: {words}"
    known = getattr(model.tokenizer, "convert_tokens_to_ids", None)
    vocabulary_of = getattr(model.tokenizer, "get_vocab", dict[str, int])()
    if known is not None and SEPARATOR in vocabulary_of:
        return [int(vocabulary_of[SEPARATOR])], [], f"with and without {SEPARATOR} before each window"
    first = getattr(model.tokenizer, "bos_token_id", None)
    if first is None:
        return [], [], "nothing before each window: the tokenizer has no start token"
    return [int(first)], [], "with and without the BOS token before each window"


def _chunks(
    tokenizer: Any,  # noqa: ANN401
    documents: list[Document],
    length: int,
    count: int,
) -> Iterator[tuple[str, str, list[int]]]:
    """Consecutive pieces of documents, every document's first before any second."""
    ids: dict[str, list[int]] = {}
    found, turn, left = 0, 0, documents
    while left and found < count:
        longer: list[Document] = []
        for document in left:
            if document.name not in ids:  # most documents are never read when few pieces are asked for
                ids[document.name] = plain_ids(tokenizer, document.text)
            piece = ids[document.name][turn * length : (turn + 1) * length]
            if len(piece) == length and found < count:
                found += 1
                longer.append(document)
                yield "natural", document.name, piece
            if found == count:
                return
        left, turn = longer, turn + 1


def _drawn(size: int, count: int, length: int, seed: int) -> Iterator[tuple[str, str, list[int]]]:
    for number in range(count):
        draw = np.random.default_rng([seed, _SALT, number])
        ids = [int(i) for i in draw.integers(LOWEST, size, length)]
        yield "random", f"random-{number:03d}", ids
        yield "repeated", f"repeated-{number:03d}", ids[:1] * length
