"""Minimal pairs: a sentence that the grammar allows beside one that it does not, as windows of their own.

For models that predict masked tokens each sentence stands there once for every token of its own, with that one masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscope.errors import EmptyMaterial, Refused
from depthscope.materials.agreement import SOURCE, AgreementGrammar
from depthscope.materials.edges import edges, encoded
from depthscope.materials.rows import rows
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges

if TYPE_CHECKING:
    from depthscope.runtime.model import Model

COLUMNS = ("sentence_good", "sentence_bad", "UID")
SIDES = ("good", "bad")


@dataclass(frozen=True)
class Pair:
    """Two sentences, their paradigm, and the field of grammar that it belongs to."""

    good: str
    bad: str
    paradigm: str
    field: str


@dataclass(frozen=True)
class MinimalPairSentences:
    """Both sentences of each pair.

    Args:
        source: "agreement" for the synthetic grammar, or JSON lines with sentence_good, sentence_bad, UID and
            linguistics_term, as BLiMP has them, by path (`materials.data.data_path`).
        pairs: of each paradigm at most, drawn by seed; 0 takes all.
        masked: a window for each token of a sentence, which the mask token covers; `about` names the place ("masked")
            and what was there ("target"). Special tokens are never masked.
    """

    source: str = SOURCE
    pairs: int = 40
    masked: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, pairs=at_least(0))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "minimal_pairs"

    def windows(self, model: Model, seed: int) -> Windows:
        """Two windows a pair, marked at their end; a pair that does not fit into the model is left out.

        Raises:
            EmptyMaterial: when no pair is left. Refused: for masked windows of a tokenizer without a mask token.
        """
        cover = _mask_of(model.tokenizer) if self.masked else None
        where, found = self._pairs(seed)
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        longest = getattr(model.config, "max_position_embeddings", None) or 10**9
        items: list[Window] = []
        kept = 0
        for number, pair in enumerate(found):
            both = [encoded(model.tokenizer, text, 10**6) for text in (pair.good, pair.bad)]
            if not all(2 <= len(ids) <= longest and own for ids, own in both):
                continue
            kept += 1
            for side, (ids, own) in zip(SIDES, both, strict=True):
                about = {"pair": number, "side": side, "paradigm": pair.paradigm, "field": pair.field}
                for seen, place, more in _covered(ids, len(before), own, cover):
                    items.append(Window(len(items), f"pair-{number:05d}", seen, (place,), about | more))
        if not items:
            raise EmptyMaterial(f"{where} has no pair of sentences of 2 to {longest} tokens")
        return Windows(tuple(items), f"{where}: {kept} pairs", words, 0)

    def _pairs(self, seed: int) -> tuple[str, list[Pair]]:
        if self.source == SOURCE:
            made = AgreementGrammar().sentences(4 * max(self.pairs, 10), seed=2)
            pairs = [Pair(s.parse.text, s.wrong, _attractors(s.attractors), s.kind) for s in made]
            return "agreement grammar", self._few(pairs, seed)
        where, found = rows(self.source, "", COLUMNS)
        pairs = [
            Pair(
                r["sentence_good"], r["sentence_bad"], str(r["UID"]), str(r.get("linguistics_term", r["UID"]))
            )
            for r in found
        ]
        return Path(where).name, self._few(pairs, seed)

    def _few(self, pairs: list[Pair], seed: int) -> list[Pair]:
        """The first `pairs` of each paradigm in a random order, in the order of the source."""
        taken: dict[str, int] = {}
        kept: list[int] = []
        for k in np.random.default_rng(seed).permutation(len(pairs)).tolist():
            count = taken[pairs[k].paradigm] = taken.get(pairs[k].paradigm, 0) + 1
            if not self.pairs or count <= self.pairs:
                kept.append(k)
        return [pairs[k] for k in sorted(kept)]


def _covered(
    ids: tuple[int, ...], start: int, own: int, cover: int | None
) -> list[tuple[tuple[int, ...], int, dict[str, int]]]:
    """The sentence with its last place, or, where there is a mask, once for each of its own tokens, covered."""
    if cover is None:
        return [(ids, len(ids) - 1, {})]
    places = range(start, start + own)
    return [((*ids[:p], cover, *ids[p + 1 :]), p, {"masked": p, "target": ids[p]}) for p in places]


def _mask_of(tokenizer: Any) -> int:  # noqa: ANN401
    found = getattr(tokenizer, "mask_token_id", None)
    if found is None:
        raise Refused("its tokenizer has no mask token, so a sentence has no pseudo-log-likelihood")
    return int(found)


def _attractors(count: int) -> str:
    return "no attractor" if count == 0 else "attractor"
