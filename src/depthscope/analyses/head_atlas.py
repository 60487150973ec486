"""Head atlas: one row for every attention head, with every score and the labels that follow.

Question: What is each attention head of this model for, and which roles go together?

Method: The atlas reads what other analyses found by layer and head and sets it side by side: patterns, sinks,
induction, retrieval, grammar; with also=..., gates, function vectors and iteration heads too. Each score stands under a
short name with its interval and counts; `note` says whose it is. Scores that nobody measured are missing, never 0. On
packaged sentences the atlas measures write_share, the length of a head's write over that of all of its layer's
attention, and picks example arcs: for each head the pairs of words that it links most strongly, sinks and the word
itself left out. Labels are a view of the scores: fixed thresholds, or with rank=0.05 the 5 % of heads with the largest
values. A label whose scores are missing is open unless the others decide it. correlation is Spearman's over heads,
correlation_given_layer its partial form; overlap is Jaccard's index of two labels, overlap_p the chance of as large an
overlap of random heads (hypergeometric). table=FILE joins scores of other tools: CSV with layer, head, one column each.

How to read: Filter the grid by a label, sort the list by a score, open a head for its scores and arcs. role_share is
how common a label is, role_depth where its heads lie, from 0 (first layer) to 1 (last).

What misleads: Thresholds are conventions: levels shift with the length of the texts, BOS and size, and a view by rank
labels heads of a model that does nothing. Labels say what a head looks like in the texts that were read, not what it
is needed for. Scores of one pattern overlap by construction: a previous-token head is also local. Not every pair of
labels is a test of its own; overlap_p is not corrected for their number.

Source: Clark et al. 2019 (arXiv 1906.04341); Olsson et al. 2022 (2209.11895); Wu et al. 2025 (2404.15574); Gu et al.
2025 (2410.10781); the set of labels is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.atlas_findings import Atlas
from depthscope.engine.atlas_scores import PARTS, SOURCES, STANDS_ON, answerable, imported, scores_of
from depthscope.engine.attending import must_attend
from depthscope.engine.grammar_items import Sentences
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput, UnknownName
from depthscope.materials.parses import Parses
from depthscope.measures.dependency import word_attention
from depthscope.registry import ANALYSES
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.head_writes import head_write, layers_with_heads
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class HeadAtlas:
    """All heads, all scores.

    Args:
        also: further analyses to wait for, such as "function_vectors". without: analyses not to wait for.
        rank: 0 labels by thresholds; a share labels that part of the heads with the largest values.
        table: scores of other tools, a CSV file with layer, head and one column a score.
        arcs: example arcs kept of each head. sentences: packaged sentences that arcs and writes are read from.
    """

    also: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    rank: float = 0.0
    table: str = ""
    arcs: int = 4
    sentences: int = 24

    def __post_init__(self) -> None:
        for name in (*self.also, *self.without):
            if name not in ANALYSES:
                raise UnknownName("analysis", name, ANALYSES)
        if not 0 <= self.rank < 1 or self.arcs < 0 or self.sentences < 1:
            raise BadInput(
                f"rank={self.rank}, arcs={self.arcs}, sentences={self.sentences}: a share in [0, 1), 0 arcs or more, "
                "1 sentence or more"
            )

    def needs(self, anatomy: Anatomy) -> Needs:
        """The scores of others, and all rows and writes of the packaged sentences."""
        must_attend(anatomy)
        names = tuple(n for n in dict.fromkeys((*STANDS_ON, *self.also)) if n not in self.without)
        return Needs(
            frozenset({"L*.head_out"}),
            every_query=1,
            after=answerable(names, anatomy),
            material=Parses(sentences=self.sentences),
        )

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """What others found, and of these sentences the arcs and how much each head writes."""
        del batch
        anatomy = model.anatomy
        scores = scores_of(given)
        if self.table:
            scores |= imported(self.table, anatomy.n_layers, anatomy.n_heads)
        ones = np.ones((len(PARTS), anatomy.n_layers, anatomy.n_heads), np.int64)
        tally: dict[str, Sum | Rows | PerDocument] = {f"score.{n}": Sum(v, ones) for n, v in scores.items()}
        group = np.array(anatomy.n_heads // max(1, anatomy.n_kv_heads), np.float64)
        tally["kv_group"] = Sum(group, np.array(1))
        tally["write_share"] = _write_shares(model, seen)
        if self.arcs:
            tally["arcs"] = _arcs(model, seen)
        return Tally(tally)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One measurement a score, labels and overlaps, one row a head, and example arcs."""
        scores = {name: np.full((len(PARTS), facts.n_layers, facts.n_heads), np.nan) for name in SOURCES}
        for name, found in total.items():
            if name.startswith("score.") and isinstance(found, Sum):
                scores[name.removeprefix("score.")] = found.total / np.maximum(found.count, 1)
        writes = self._writes(total, facts)
        scores["write_share"] = np.stack([np.asarray(getattr(writes, p), np.float64) for p in PARTS])
        atlas = Atlas(scores, facts, self.rank)
        found = {m.name: m for m in atlas.measurements()} | {"write_share": writes}
        shared = part(total, "kv_group", Sum)
        group = round(float(shared.total / shared.count))
        examples = {"labels": atlas.label_table(), "heads": atlas.head_table(group)}
        if self.arcs:
            examples["arcs"] = _strongest(part(total, "arcs", Rows), self.arcs)
        return Findings(found, examples, notes=atlas.gaps())

    def _writes(self, total: Tally, facts: Facts) -> Measurement:
        axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
        note = "length of the head's write over that of its layer's attention; packaged sentences"
        missing = "the layer has no heads with an output projection"
        return mean(
            part(total, "write_share", PerDocument), "write_share", axes, "probability", facts, note, missing
        )


def _write_shares(model: Model, seen: View) -> PerDocument:
    """|write of a head| over |sum of the writes of its layer's heads|, at every token from position 1 on."""
    anatomy = model.anatomy
    rows, length = seen.seen.batch.rows, seen.seen.batch.length
    values = np.full((rows * (length - 1), anatomy.n_layers, anatomy.n_heads), np.nan)
    for layer in layers_with_heads(anatomy):
        writes = head_write(model, layer, seen[f"L{layer}.head_out"][:, 1:]).detach().float()
        every = torch.linalg.vector_norm(writes.sum(2), dim=-1).clamp_min(1e-30)
        own = torch.linalg.vector_norm(writes, dim=-1)
        values[:, layer] = (own / every[..., None]).flatten(0, 1).double().cpu().numpy()
    units = [unit for unit in seen.units for _ in range(length - 1)]
    return PerDocument.of(units, values)


def _arcs(model: Model, seen: View) -> Rows:
    """For every head and sentence the pair of different words with the most attention, sinks left out."""
    anatomy = model.anatomy
    sentences = Sentences.of(seen.windows, seen.sinks.cpu(), seen.queries.cpu(), anatomy.family.causal)
    n_words = sentences.allowed.shape[1]
    queries = sentences.words[:, sentences.queries]
    keys: list[int] = []
    found: list[tuple[int, int, int, int, float]] = []
    for layer in anatomy.attention_layers:
        attention = word_attention(seen.pattern(layer).cpu(), queries, sentences.words, n_words)
        best = attention.masked_fill(~sentences.allowed[:, None], -1.0).flatten(2).max(-1)
        for row, window in enumerate(seen.windows):
            for head in range(anatomy.n_heads):
                place = int(best.indices[row, head])
                keys.append((window.index * anatomy.n_layers + layer) * anatomy.n_heads + head)
                found.append((row, layer, head, place, float(best.values[row, head])))
    spelt = [seen.windows[f[0]].about["spelt"] for f in found]
    columns = {
        "layer": np.array([f[1] for f in found], np.int32),
        "head": np.array([f[2] for f in found], np.int32),
        "weight": np.array([f[4] for f in found], np.float64),
        "word": np.array(
            [s[f[3] // n_words % len(s)] for s, f in zip(spelt, found, strict=True)], dtype="U32"
        ),
        "looks_at": np.array(
            [s[f[3] % n_words % len(s)] for s, f in zip(spelt, found, strict=True)], dtype="U32"
        ),
        "sentence": np.array([seen.windows[f[0]].document for f in found], dtype="U64"),
    }
    return Rows(np.array(keys, np.uint64), columns, 10**7)


def _strongest(arcs: Rows, count: int) -> Table:
    """The arcs of each head with the most attention."""
    c = arcs.columns
    order = np.lexsort([arcs.key, -c["weight"], c["head"], c["layer"]])
    heads = c["layer"][order].astype(np.int64) * 10**6 + c["head"][order]
    _, first, number = np.unique(heads, return_index=True, return_inverse=True)
    place = np.arange(len(heads)) - first[number]
    kept = order[(place < count) & (c["weight"][order] > 0)]
    return Table(
        {name: values[kept] for name, values in c.items()}, "the pairs of words that a head links most"
    )
