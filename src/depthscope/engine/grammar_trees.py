"""Whole parses from attention: spanning trees of heads, and trees of simple rules, against the true ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from depthscope.engine.grammar_items import Sentences
from depthscope.engine.measured import difference, mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.results.measurement import Measurement

OFFSETS = (-3, -2, -1, 1, 2, 3)
RIVALS = (*(f"offset {o:+d}" for o in OFFSETS), "next to next", "all on the root")
"""Trees that need no model; offset -1, every word on the one before, is the right-branching tree."""
FEWEST = 3
"""Words below which a tree has no choice."""


@dataclass(frozen=True)
class GoldTrees:
    """The true trees of one batch of sentences.

    Args:
        there: words that belong to the tree: no punctuation, no sink, and such as ask. root: the true one.
        gold: the head of each word that is counted, -1 for others. usable: sentences whose root is there.
    """

    there: Bool[Tensor, "row word"]
    root: Int[Tensor, " row"]
    gold: Int[Tensor, "row word"]
    usable: Bool[Tensor, " row"]

    @classmethod
    def of(cls, sentences: Sentences) -> GoldTrees:
        """A word belongs to the tree where some word may pick it, or it may pick some."""
        n_words = sentences.allowed.shape[1]
        there = sentences.allowed.any(1) | sentences.allowed.any(2)
        sinks = (sentences.words[:, :, None] == torch.arange(n_words)) & sentences.sinks[:, :, None]
        there &= ~sinks.any(1)
        heads = torch.full(there.shape, -2)
        for row, window in enumerate(sentences.windows):
            labels = window.about["labels"]
            heads[row, : len(labels)] = torch.tensor(list(window.about["heads"]))
            there[row, : len(labels)] &= torch.tensor([each[0] != "punct" for each in labels])
        roots = (heads == -1) & there
        usable = roots.any(1) & (there.sum(1) >= FEWEST)
        counted = there & (heads >= 0) & there.gather(1, heads.clamp_min(0)) & usable[:, None]
        return cls(there, roots.int().argmax(1), torch.where(counted, heads, -1), usable)

    def hits(self, parents: Int[Tensor, "row cell word"]) -> Int[Tensor, "row cell"]:
        """How many words of each sentence hang on the right one."""
        return ((parents == self.gold[:, None]) & (self.gold >= 0)[:, None]).sum(-1)

    def rivals(self) -> Int[Tensor, "row variant word"]:
        """What each word hangs on by the rules of RIVALS."""
        n_words = self.there.shape[1]
        place = torch.where(self.there, self.there.cumsum(1) - 1, -1)
        order = torch.where(self.there, torch.arange(n_words), n_words).sort(1).values
        own = place.gather(1, self.root[:, None])

        def at(places: Tensor) -> Tensor:
            inside = (places >= 0) & (places < self.there.sum(1, keepdim=True))
            found = order.gather(1, places.clamp(0, n_words - 1))
            return torch.where(inside & self.there, found, self.root[:, None])

        towards = place + torch.sign(own - place)
        every = [*(at(place + o) for o in OFFSETS), at(towards), at(torch.full_like(place, -1))]
        return torch.stack(every, 1)

    def columns(self, hits: np.ndarray) -> dict[str, np.ndarray]:
        """Per sentence: right words of each head [row layer head] and rule, and the words that count."""
        return {
            "right": hits.astype(np.float32),
            "rival": self.hits(self.rivals()).numpy().astype(np.int16),
            "words": (self.gold >= 0).sum(1).numpy().astype(np.int16),
        }


def tree_findings(columns: Mapping[str, np.ndarray], facts: Facts) -> list[Measurement]:
    """Trees of all heads and rules over all sentences; the best head of one half on the other, and the best rule."""
    grid = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
    units, words, half = (columns[name] for name in ("unit", "words", "half"))
    right, rival = columns["right"].reshape(len(units), -1), columns["rival"].astype(np.float64)
    used = words > 0
    few = "no sentence has its root and three words in reach, or the layer has no heads"
    note = "words on the right head, of a tree that hangs from the true root"
    every = _sums(right, words, units, used, (facts.n_layers, facts.n_heads))
    rules = _sums(rival, words, units, used, (len(RIVALS),))
    tune, test = used & (half == 0), used & (half == 1)
    total = np.nan_to_num(right[tune].sum(0), nan=-1.0)
    best, rule = int(total.argmax()), int(rival[used].sum(0).argmax())
    own = _sums(right[:, best], words, units, test, ())
    other = _sums(rival[:, rule], words, units, test, ())
    layer, head = divmod(best, facts.n_heads)
    chosen = f"layer {layer} head {head}, best on the other half of the sentences"
    return [
        mean(every, "tree_uas", grid, "probability", facts, f"{note}; over all sentences", few),
        mean(rules, "tree_rival_uas", {"variant": np.array(RIVALS)}, "probability", facts, note, few),
        mean(own, "tree_best_uas", {}, "probability", facts, f"{note}; {chosen}", few),
        difference(other, own, "tree_gain", {}, "probability", facts, f"{chosen}, over {RIVALS[rule]}", few),
    ]


def _sums(
    values: np.ndarray, words: np.ndarray, units: np.ndarray, kept: np.ndarray, shape: tuple[int, ...]
) -> PerDocument:
    """Right words and words by unit; one unit without words where no sentence is kept."""
    if not kept.any():
        return PerDocument(("none",), np.zeros((1, *shape)), np.zeros((1, *shape), np.int64))
    among = values[kept].reshape(-1, *shape)
    there = np.isfinite(among)
    counts = np.where(there, words[kept].reshape(-1, *(1 for _ in shape)), 0).astype(np.int64)
    return PerDocument.of_sums(units[kept].tolist(), np.where(there, among, 0.0), counts)
