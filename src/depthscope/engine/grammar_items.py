"""What one batch of parsed sentences says of each head: whether the word that it picks is the grammatical one.

Causal models: a row sees only what is on its left, so each dependency is asked at its later word. `to_head`: the
dependent asks and its head is on the left. `to_dependent`: the head asks and at least one dependent of that relation
is on the left; any of them is right. Encoders: every dependent asks (`to_head`), and every dependent is asked for
(`from_head`: which word attends to it most).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from depthscope.materials.window import Window
from depthscope.measures.dependency import at_offsets, picked, word_attention

MODES = {True: ("to_head", "to_dependent"), False: ("to_head", "from_head")}
"""Causal -> the two ways to ask for a dependency."""
OFFSETS = {True: tuple(range(-6, 0)), False: (*range(-5, 0), *range(1, 6))}
"""Causal -> the fixed offsets that a head must beat."""
IGNORED = ("punct", "root")


@dataclass(frozen=True)
class Item:
    """One word of one sentence that is asked for one relation.

    Args:
        row: the sentence in the batch. word: the word whose row (in mode `from_head`: column) is read.
        mode: number in MODES. right: the words that are right.
    """

    row: int
    word: int
    mode: int
    relation: str
    right: tuple[int, ...]


@dataclass(frozen=True)
class Sentences:
    """The sentences of one batch as heads see them.

    Args:
        windows: with their parses. words: the word of each token. queries: positions whose rows are there.
        allowed: which word may be picked by which. sinks: tokens that are sinks.
    """

    windows: tuple[Window, ...]
    causal: bool
    words: Int[Tensor, "row token"]
    queries: Int[Tensor, " query"]
    allowed: Bool[Tensor, "row word other_word"]
    sinks: Bool[Tensor, "row token"]

    @classmethod
    def of(
        cls,
        windows: tuple[Window, ...],
        sinks: Bool[Tensor, "row token"],
        queries: Int[Tensor, " query"],
        causal: bool,
    ) -> Sentences:
        """Words that hold a sink are picked by none, and no word picks itself or, in a causal model, a later one."""
        words = torch.tensor([list(w.about["words"]) for w in windows])
        n_words = max(len(w.about["heads"]) for w in windows)
        numbers = torch.arange(n_words)
        holds_sink = ((words[:, :, None] == numbers) & sinks[:, :, None]).any(1)
        there = numbers < torch.tensor([len(w.about["heads"]) for w in windows])[:, None]
        asks = (words[:, queries][:, :, None] == numbers).any(1)
        earlier = numbers[None, :] < numbers[:, None] if causal else numbers[None, :] != numbers[:, None]
        allowed = earlier & asks[:, :, None] & (there & ~holds_sink)[:, None, :]
        return cls(windows, causal, words, queries, allowed, sinks)

    def attention(self, rows: Tensor, last: bool) -> Tensor:
        """Attention between words from rows of attention between tokens, [row head word word]."""
        queries = self.words[:, self.queries]
        return word_attention(rows, queries, self.words, self.allowed.shape[1], last)

    def items(self) -> list[Item]:
        """All questions whose right words may be picked, and that have more than one word to choose from."""
        found = [
            item
            for row, window in enumerate(self.windows)
            for item in (_causal_items if self.causal else _encoder_items)(row, window.about)
        ]
        kept: list[Item] = []
        for item in found:
            choices = self._choices(item)
            right = tuple(w for w in item.right if choices[w])
            if right and int(choices.sum()) > 1:
                kept.append(Item(item.row, item.word, item.mode, item.relation, right))
        return kept

    def _choices(self, item: Item) -> Tensor:
        columns = item.mode == 1 and not self.causal
        return self.allowed[item.row, :, item.word] if columns else self.allowed[item.row, item.word]


def _causal_items(row: int, about: Mapping[str, Any]) -> list[Item]:
    found: list[Item] = []
    left: dict[tuple[int, str], list[int]] = {}
    for word, (head, labels) in enumerate(zip(about["heads"], about["labels"], strict=True)):
        for label in labels if head >= 0 and labels[0] not in IGNORED else ():
            if head < word:
                found.append(Item(row, word, 0, label, (head,)))
            else:
                left.setdefault((head, label), []).append(word)
    return found + [Item(row, head, 1, label, tuple(words)) for (head, label), words in left.items()]


def _encoder_items(row: int, about: Mapping[str, Any]) -> list[Item]:
    return [
        Item(row, word, mode, label, (head,))
        for word, (head, labels) in enumerate(zip(about["heads"], about["labels"], strict=True))
        if head >= 0 and labels[0] not in IGNORED
        for label in labels
        for mode in (0, 1)
    ]


@dataclass(frozen=True)
class Asked:
    """Where the items of a batch stand, as index arrays."""

    row: Tensor
    word: Tensor
    columns: Tensor
    right: Bool[Tensor, "item word"]

    @classmethod
    def of(cls, items: Sequence[Item], n_words: int, causal: bool) -> Asked:
        """Index arrays of items."""
        right = torch.zeros(len(items), n_words, dtype=torch.bool)
        for k, item in enumerate(items):
            right[k, list(item.right)] = True
        place = torch.tensor([(i.row, i.word, i.mode) for i in items], dtype=torch.long).reshape(-1, 3)
        row, word, mode = place.unbind(1)
        return cls(row, word, (mode == 1) & (not causal), right)

    def hits(self, by_row: Tensor, by_column: Tensor | None) -> Tensor:
        """Whether the pick of each item is right, [item, *cells]; picks are [row cell word]."""
        pick = by_row[self.row, :, self.word]
        if by_column is not None:
            pick = torch.where(self.columns[:, None], by_column[self.row, :, self.word], pick)
        found = self.right.gather(1, pick.clamp_min(0))
        return found & (pick >= 0)


def head_hits(
    sentences: Sentences, asked: Asked, rows: Tensor, attention: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one layer: right picks [item head], attention on the right words [item head], sink rests [row head word].

    A word rests on a sink where the key with most attention from its (last) token is one; NaN where it has no query.
    """
    allowed = sentences.allowed
    queries = sentences.words[:, sentences.queries]
    columns = None if sentences.causal else picked(attention.transpose(2, 3), allowed.transpose(1, 2))
    hits = asked.hits(picked(attention, allowed), columns)
    weight = attention[asked.row, :, asked.word]
    if columns is not None:
        turned = attention.transpose(2, 3)[asked.row, :, asked.word]
        weight = torch.where(asked.columns[:, None, None], turned, weight)
    mass = (weight * asked.right[:, None]).sum(-1)
    return hits, mass, _rests(rows, queries, sentences.sinks, allowed.shape[1])


def _rests(rows: Tensor, queries: Tensor, sinks: Tensor, n_words: int) -> Tensor:
    top = sinks[torch.arange(len(rows))[:, None, None], rows.argmax(-1)].to(rows.dtype)
    of_word = (queries[:, None, :] == torch.arange(n_words)[:, None]).to(rows.dtype)
    count = of_word.sum(-1)
    share = torch.einsum("bhq,bwq->bhw", top, of_word) / count.clamp_min(1)[:, None]
    return torch.where((count > 0)[:, None], share, torch.nan)


def offset_hits(sentences: Sentences, asked: Asked) -> np.ndarray:
    """Right picks of each fixed offset, [item offset]."""
    offsets = torch.tensor(OFFSETS[sentences.causal])
    by_row = at_offsets(sentences.allowed, offsets)
    columns = None if sentences.causal else at_offsets(sentences.allowed.transpose(1, 2), offsets)
    return asked.hits(by_row, columns).numpy()
