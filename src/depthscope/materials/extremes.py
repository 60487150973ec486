"""Extreme inputs: texts whose tokens are repeated, replaced by random ids, cut short, or random from the start.

Edits are made on ids, so a text keeps its length:

- repetition: one token of the text is drawn; each position takes it with probability p, p = linspace(0, 0.9, levels)
- randomness: each position takes a uniform id of [20, V - 1] with probability p, p = linspace(0, 1, levels); V is the
  length of the tokenizer, at most the rows of the embedding
- length: nothing but such ids, of several lengths
- truncation: the first max(2, int(r T)) ids, r = linspace(0.1, 1, levels)
- copies: n copies of the drawn token

One uniform number a position decides for all levels (the position is edited where it lies below p), and a short random
text begins a longer one: each level is distributed as if drawn by itself, and levels are compared on the same draws.
Every edit comes in two modes: `exact`, and `first_kept`, where position 0 holds what stood there. Where both are the
same ids one window serves both.
Source: Skean et al. 2025 (arXiv 2502.02013), appendix F; p = 1 of repetition is left out, identical tokens have no
spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput
from depthscope.materials.edges import edges
from depthscope.materials.paragraphs import paragraphs
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

KINDS = ("repetition", "randomness", "length", "truncation", "copies")
MODES = ("exact", "first_kept")
LOWEST = 20
"""Ids below it are left out of random draws: control tokens stand there in many tokenizers."""
_SALT = 0x0E_77_4E_3E

Edited = tuple[str, float, np.ndarray, np.ndarray]
"""Kind, level, and the ids of both modes."""


@dataclass(frozen=True)
class Extremes:
    """Edited texts.

    Args:
        source: as for the run's text; "" for the packaged sample. prompts: paragraphs that are edited.
        longest: ids of a text at most. levels: of repetition, randomness and truncation, at least 2 each.
        lengths: of random texts; those that exceed the model's positions are left out. draws: random texts a length.
        copies: how often a single token is repeated.
    """

    source: str = ""
    prompts: int = 32
    longest: int = 128
    levels: tuple[int, ...] = (9, 10, 5)
    lengths: tuple[int, ...] = (64, 128, 256, 512)
    draws: int = 16
    copies: tuple[int, ...] = (2, 10, 99)

    def __post_init__(self) -> None:
        if len(self.levels) != 3 or min(self.levels) < 2:
            raise BadInput(
                f"levels={self.levels}; repetition, randomness and truncation need 2 levels or more each"
            )
        check_ranges(self, lengths=at_least(2, what="tokens"), copies=at_least(2, what="tokens"))
        check_ranges(self, prompts=at_least(1), draws=at_least(1), longest=at_least(4, what="tokens"))

    @property
    def name(self) -> str:
        """The file of ids."""
        return "extremes"

    def windows(self, model: Model, seed: int) -> Windows:
        """Every edit of every text; `about` says kind, level, modes, and the number of the text.

        Raises:
            BadInput: for a vocabulary without ids to draw, or lengths that the model has no positions for.
        """
        limit = int(getattr(model.config, "max_position_embeddings", None) or 10**9)
        lengths = tuple(sorted({n for n in self.lengths if n <= limit}))
        if not lengths:
            raise BadInput(f"lengths={self.lengths}: {model.name} has {limit} positions; give shorter ones")
        where, texts = paragraphs(self.source, self.prompts, seed)
        before, after, words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))
        room = min(self.longest, limit) - len(before) - len(after)
        items: list[Window] = []
        for number, one in enumerate(texts):
            ids = np.array([*before, *plain_ids(model.tokenizer, one.text)[:room], *after])
            draw = np.random.default_rng([seed, _SALT, number])
            long = lengths if number < self.draws else ()
            short = tuple(n for n in self.copies if n <= limit)
            for edit in _edits(ids, draw, self.levels, long, short, vocabulary(model)):
                items += _windows(edit, len(items), number, one.document)
        said = f"{len(texts)} paragraphs of {where}, edited"
        return Windows(tuple(items), said, words, 0)


def vocabulary(model: Model) -> int:
    """How many ids random draws may take: the tokenizer's, at most the rows of the embedding.

    Raises:
        BadInput: when none is left from LOWEST on.
    """
    size = min(len(model.tokenizer), int(model.net.get_input_embeddings().weight.shape[0]))  # pyright: ignore[reportCallIssue, reportArgumentType]
    if size <= LOWEST + 1:
        raise BadInput(f"{model.name} has {size} token ids; random ids are drawn from {LOWEST} on")
    return size


def _edits(
    ids: np.ndarray,
    draw: np.random.Generator,
    levels: tuple[int, ...],
    lengths: tuple[int, ...],
    copies: tuple[int, ...],
    size: int,
) -> Iterator[Edited]:
    """All edits of one text."""
    length = len(ids)
    token = ids[draw.integers(length)]
    places, other = draw.random((2, length))
    noise = draw.integers(LOWEST, size, length)
    for p in np.linspace(0, 0.9, levels[0]):
        yield _kept("repetition", float(p), np.where(places < p, token, ids), ids)
    for p in np.linspace(0, 1, levels[1]):
        yield _kept("randomness", float(p), np.where(other < p, noise, ids), ids)
    for r in np.linspace(0.1, 1, levels[2]):
        yield _kept("truncation", float(r), ids[: max(2, int(r * length + 1e-9))], ids)
    for n in copies:
        yield _kept("copies", float(n), np.full(n, token), ids)
    random = draw.integers(LOWEST, size, max(lengths, default=0))
    for n in lengths:
        yield _kept("length", float(n), random[:n], ids)


def _kept(kind: str, level: float, edited: np.ndarray, ids: np.ndarray) -> Edited:
    kept = edited.copy()
    kept[0] = ids[0]
    return kind, round(level, 6), edited, kept


def _windows(edit: Edited, index: int, number: int, document: str) -> list[Window]:
    """One window for both modes where they are the same ids, else two."""
    kind, level, edited, kept = edit
    both = (edited == kept).all()
    sides = [(MODES, edited)] if both else [((MODES[0],), edited), ((MODES[1],), kept)]
    about = {"kind": kind, "level": level, "text": number, "source": document}
    return [
        Window(index + k, document, tuple(map(int, ids)), (), {**about, "modes": list(modes)})
        for k, (modes, ids) in enumerate(sides)
    ]
