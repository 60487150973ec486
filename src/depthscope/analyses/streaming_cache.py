"""Streaming cache: what a text costs when only its first and its most recent keys are kept.

Question: How much worse is the next token predicted from a cache of the last keys alone, and do a few first keys put
that right?

Method: Texts are read whole, and again under a cache of `budget` keys of which `sinks` are the first keys of the text
and the others the most recent ones. Losses are means over the tokens from the middle of each text on. In variant mask
keys keep their positions in the text; in variant rolling positions are counted inside the cache, as a cache that never
grows must do (only where positions are rotations). Variant line_feeds is mask with the first tokens after a start token
replaced by line feeds, as many as the largest number of sinks. excess is a loss minus full_loss, paired over texts.

How to read: A large excess with 0 sinks and a small one with 1 or 4 says that the model needs its first keys as a place
to rest, not for what they say; a small excess of line_feeds says the same.

What misleads: mask and rolling differ in what they ask of the model: do not compare across them. Texts shorter than the
model's training length show less than those beyond it, where a model without its first keys breaks down. Layers with a
sliding window shorter than the cache lose only their first keys, if any. One cache size for all heads is not what a
good compressor would do.

Source: Xiao et al. 2024 (arXiv 2309.17453), tables 1 and 2. Reading whole texts under a mask in place of decoding token
by token, and the turned queries of rolling, are ours; both are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.measured import difference, mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.text_loss import text_loss
from depthscope.engine.view import View
from depthscope.errors import BadInput, Refused
from depthscope.materials.long_texts import LongTexts
from depthscope.ranges import check_names
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.streaming import Cache, streamed

VARIANTS = ("mask", "rolling", "line_feeds")


@dataclass(frozen=True)
class StreamingCache:
    """Losses under caches of first and recent keys.

    Args:
        source, texts, length: see `materials.long_texts.LongTexts`.
        budgets: keys a cache holds. sinks: how many of them are the text's first.
        variants: of mask, rolling, line_feeds.
    """

    source: str = ""
    texts: int = 8
    length: int = 700
    budgets: tuple[int, ...] = (256,)
    sinks: tuple[int, ...] = (0, 1, 4)
    variants: tuple[str, ...] = VARIANTS

    def __post_init__(self) -> None:
        LongTexts(self.source, self.texts, self.length)
        check_names(self, variants=VARIANTS)
        if not self.budgets or not self.sinks or min(self.sinks) < 0 or min(self.budgets) <= max(self.sinks):
            raise BadInput(
                f"budgets={self.budgets}, sinks={self.sinks}; a cache holds more keys than its sinks, 0 or more"
            )
        if min(self.budgets) >= self.length:
            raise BadInput(
                f"budgets={self.budgets}, length={self.length}; a cache must be shorter than the texts"
            )

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded texts, read again once a cache; refused for encoders and where no layer has attention."""
        if not anatomy.family.causal:
            raise Refused("it is no causal language model: it keeps no cache of what came before")
        must_attend(anatomy)
        need = SweepNeed(tokens=0, documents=0, protect="none", replays=1 + len(list(self._caches())))
        return Needs(sweeps=frozenset({need}), material=LongTexts(self.source, self.texts, self.length))

    def _caches(self) -> Iterator[tuple[int, int, int, Cache]]:
        """Places of variant, budget and sinks with the cache they stand for."""
        for v, variant in enumerate(self.variants):
            for b, budget in enumerate(self.budgets):
                for s, sinks in enumerate(self.sinks):
                    if variant != "line_feeds" or sinks == max(self.sinks) > 0:
                        yield v, b, s, Cache(sinks, budget - sinks, variant == "rolling")

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Mean loss of each text's second half, in full and under each cache, [row, variant, budget, sinks]."""
        del given
        if seen.sweep is None:
            return Tally({})
        half = batch.length // 2
        shape = (batch.rows, len(self.variants), len(self.budgets), len(self.sinks))
        losses = np.full(shape, np.nan)
        for v, b, s, cache in self._caches():
            read = _with_line_feeds(batch, seen, cache.start) if self.variants[v] == "line_feeds" else batch
            try:
                end = streamed(model, read, cache, clean=seen.seen)["L-1.resid_post"]
            except Refused:
                if not cache.rolling:
                    raise
                continue  # positions that are no rotations cannot be counted anew: the cell stays empty
            losses[:, v, b, s] = text_loss(model, end, batch.ids, half)
        full = text_loss(model, seen["L-1.resid_post"], batch.ids, half)
        both = np.isfinite(losses)
        return Tally({
            "loss": PerDocument.of(seen.units, losses),
            "full": PerDocument.of(seen.units, full),
            "beside": PerDocument.of(seen.units, np.where(both, full[:, None, None, None], np.nan)),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Losses, and what each cache costs against the whole text."""
        axes = {
            "variant": np.asarray(self.variants), "kept": np.asarray(self.budgets), "sinks": np.asarray(self.sinks),
        }  # fmt: skip
        loss, beside = part(total, "loss", PerDocument), part(total, "beside", PerDocument)
        note = f"tokens from {self.length // 2} on, in texts of {self.length} tokens"
        none = "positions are no rotations, or line feeds stand for the largest number of sinks only"
        found = [
            mean(part(total, "full", PerDocument), "full_loss", {}, "nats", facts, note),
            mean(loss, "loss", axes, "nats", facts, note, none),
            difference(beside, loss, "excess", axes, "nats", facts, note, none),
        ]
        return Findings({m.name: m for m in found})


def _with_line_feeds(batch: Batch, seen: View, sinks: int) -> Batch:
    """The first tokens after a start token replaced by line feeds."""
    ids = batch.ids.clone()
    for row, window in enumerate(seen.windows):
        start = int(window.about["start"])
        line = torch.tensor(window.about["line"])
        ids[row, start : max(sinks, start)] = line.repeat(sinks)[: max(sinks - start, 0)].to(ids)
    return replace(batch, inputs={**batch.inputs, "input_ids": ids})
