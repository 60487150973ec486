"""Retrieval heads: which heads fetch an answer from far back.

Question: Which heads look at the very token of a hidden sentence that the model says next, and how well does the
model fetch it at each depth and length?

Method: A sentence is hidden at some depth of a text of some length; a question about it follows, and the words that
open it. Rows of attention are recomputed where each token of the answer is predicted. A head copies such a token
when the key it looks at most lies in the answer's span and holds that token; retrieval is the share of the span's
positions it copied, so each counts once. By default the right answer is fed (teacher), so every test counts and
needs one pass; with decoding=free the model writes its own answer greedily, what it wrote is fed again, and only
tests with a unigram recall above 0.5 count. needle_mass is the mean mass on the span, activation_frequency the share
of tests with at least one copied token, sink_argmax the share of rows that look at the first token most. Heads of
layers with a sliding window count only tests whose answer they can reach. Beside the needles a random block comes
four times: echo is the mass on the same token of the copy before, echo_induction on the token behind it; full_cache
marks the key-value heads that would keep all keys by these two, those with the highest induction (14 %) and echo (1
%), a group counted by its highest head.

How to read: A retrieval head has a score above 0.1, a strong one above 0.5; most heads have 0. token_accuracy by
length and depth says where the model still answers: scores of heads where it does not say little.

What misleads: An opening that stands in the prompt makes the task one of copying, which small models can do; with a
question alone they may not. A high score is no proof of need: see retrieval_ablation. A needle that a windowed layer
cannot reach gives no score there, never 0. Few needles make wide intervals. Digits that are split by character
would make copying easy, so needles hold none.

Source: Wu et al. 2024 (arXiv 2404.15574), retrieval score; Tang et al. 2024 (arXiv 2407.15891), echo and induction
heads that keep their cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.cell_sums import Cells
from depthscope.engine.head_cache import CacheShape
from depthscope.engine.measured import mean, part
from depthscope.engine.needle_answers import taught, written
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.needles import Needles
from depthscope.measures.cache import RECENT, START, full_heads
from depthscope.measures.induction import repeat_scores
from depthscope.measures.retrieval import retrieval_scores
from depthscope.ranges import check_names
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

DECODING = ("teacher", "free")
SCORES = {
    "retrieval": "share of the answer's positions that were looked at most when the token there was said",
    "needle_mass": "mean mass on the answer's span",
    "activation_frequency": "share of tests with at least one copied token",
    "sink_argmax": "share of rows that look at the first token most",
}
FAILED = {"sink_when_wrong": "share of rows that look at the first token most, in tests answered wrong"}
ECHOES = {
    "echo": "mass on the same token of the copy before; random block four times",
    "echo_induction": "mass on the token behind it",
}
ANSWERS = {
    "token_accuracy": "share of the answer's tokens that are said right",
    "exact": "share of answers all of whose tokens are said right",
    "accepted": "share of tests that count",
}
TOKENS = (1024, 4096, 8192, 32768)
"""Lengths for which the size of the cache is given."""
ABSENT = "the layer has no attention heads, or no answer lies within its window, or no test is of this kind"


@dataclass(frozen=True)
class RetrievalHeads:
    """Retrieval scores of all heads.

    Args:
        source, haystack, lengths, depths, limit, part: see `materials.needles`.
        decoding: "teacher" or "free". echo, echoes: tokens and number of repeated random blocks.
    """

    source: str = ""
    haystack: str = ""
    lengths: tuple[int, ...] = (256, 512)
    depths: tuple[float, ...] = (0.1, 0.5, 0.9)
    limit: int = 0
    part: str = "even"
    decoding: str = "teacher"
    echo: int = 50
    echoes: int = 4

    def needs(self, anatomy: Anatomy) -> Needs:
        """Attention rows where answers are predicted; refused where nothing attends or nothing is written."""
        must_attend(anatomy)
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no answer follows a question")
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so it gives no answer")
        check_names(self, decoding=DECODING)
        last = frozenset({str(anatomy.states()[-1])}) if self.decoding == "teacher" else frozenset[str]()
        return Needs(last, own_queries=True, material=self.material())

    def material(self) -> Needles:
        """The needles that are read."""
        return Needles(
            self.source,
            self.haystack,
            self.lengths,
            self.depths,
            self.limit,
            self.part,
            self.echo,
            self.echoes,
        )

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Scores of each test, one row a test."""
        del batch, given
        anatomy = model.anatomy
        heads = Cells(seen.units, (anatomy.n_layers, anatomy.n_heads))
        answers = Cells(seen.units, (len(set(self.lengths)), len(set(self.depths))))
        for row, window in enumerate(seen.windows):
            if window.about["kind"] == "needle":
                self._test(model, seen, row, heads, answers)
            else:
                _echoes(model, seen, row, heads)
        tally = Tally({**heads.tally(), **answers.tally()})
        if 0 in seen.shard.windows:
            shape = PerDocument.of(["model"], CacheShape.of(model).numbers()[None])
            tally = tally.add(Tally({"cache_shape": shape}))
        return tally

    def _test(self, model: Model, seen: View, row: int, heads: Cells, answers: Cells) -> None:
        """One needle."""
        about = seen.windows[row].about
        answer = (taught if self.decoding == "teacher" else written)(model, seen, row)
        cell = (
            sorted(set(self.lengths)).index(about["length"]),
            sorted(set(self.depths)).index(about["depth"]),
        )
        for name in ANSWERS:
            answers.add_row(name, row, getattr(answer, name), cell)
        if not answer.accepted:
            return
        start, stop = about["span"]
        for layer in answer.layers:
            window = model.anatomy.window_of_layer[layer]
            if window is not None and about["prompt"] - 1 - start >= window:
                continue  # the token to be said lies outside the window
            found = retrieval_scores(answer.pattern(layer), answer.said, answer.ids, start, stop)
            for name, scores in zip(SCORES, found.values(), strict=True):
                heads.add_row(name, row, scores.double().cpu().numpy(), (layer,))
            if not answer.exact:
                sink = found["sink_argmax"].double().cpu().numpy()
                heads.add_row("sink_when_wrong", row, sink, (layer,))

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Scores by layer and head, answers by length and depth, and which heads would keep their cache."""
        axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
        where = {"length": np.array(sorted(set(self.lengths))), "depth": np.array(sorted(set(self.depths)))}
        found: list[Measurement] = []
        for name, note in {**SCORES, **FAILED, **ECHOES}.items():
            one = _or_nothing(total, name, axes)
            missing = ABSENT if (one.counts.sum(0) == 0).any() else ""
            found.append(mean(one, name, axes, "probability", facts, note, missing))
        for name, note in ANSWERS.items():
            found.append(mean(_or_nothing(total, name, where), name, where, "probability", facts, note))
        by_name = {m.name: m for m in found}
        shape = CacheShape.of_numbers(part(total, "cache_shape", PerDocument).sums.sum(0))
        kept = full_heads(by_name["echo_induction"].value, by_name["echo"].value, shape.kv_heads)
        gap = ABSENT if np.isnan(kept).any() else ""
        note = "1 where the echo or induction score of a group of shared keys keeps its whole cache"
        by_name["full_cache"] = Measurement("full_cache", axes, kept, "1", note=note, missing=gap)
        by_name["cache"] = _cache(shape, kept)
        return Findings(by_name)


def _cache(shape: CacheShape, kept: np.ndarray) -> Measurement:
    """Bytes of keys and values in 16 bits: all kept, and with those heads streaming that full_cache lets go."""
    groups = np.nan_to_num(kept).reshape(len(kept), shape.kv_heads, -1).max(-1) > 0
    values = [[shape.bytes(n, full) for n in TOKENS] for full in (None, groups)]
    axes = {"variant": np.array(["all", "streaming"]), "length": np.array(TOKENS)}
    note = f"16-bit numbers; a streaming head keeps {START} first and {RECENT} recent keys; other state is left out"
    return Measurement("cache", axes, np.asarray(values, np.float64), "bytes", note=note)


def _echoes(model: Model, seen: View, row: int, heads: Cells) -> None:
    about = seen.windows[row].about
    queries = torch.as_tensor(about["queries"])
    for layer in seen.seen.heads:
        rows = seen.pattern(layer)[row : row + 1, :, : len(queries)]
        window = model.anatomy.window_of_layer[layer]
        found = repeat_scores(rows, queries, about["start"], about["length"], window)
        for name, own in (("echo", "duplicate"), ("echo_induction", "induction")):
            heads.add_row(name, row, torch.nanmean(found[own][0].double(), -1).cpu().numpy(), (layer,))


def _or_nothing(total: Tally, name: str, axes: Mapping[str, np.ndarray]) -> PerDocument:
    if name in total:
        return part(total, name, PerDocument)
    shape = (1, *(len(labels) for labels in axes.values()))
    return PerDocument((name,), np.zeros(shape), np.zeros(shape, np.int64))
