"""Head atlas: one row for every attention head, with every score and the labels that follow.

Question: What is each attention head of this model for, and which roles go together?

Method: The atlas reads what other analyses found by layer and head and sets it side by side: patterns, sinks,
induction, retrieval, grammar; with also=... function vectors and iteration heads too, with runs=... what other runs of
the same model hold, such as the gates of `depthscope gates`. Each score stands under a short name with its interval and
counts; `note` says whose it is. Scores that nobody measured are missing, never 0. On packaged sentences the atlas
measures mean_write, the length of a head's write, and write_share, the same over that of all of its layer's attention;
with ablate=8 also ablation, the rise of the loss in 8 of them with this head alone set to zero. It picks example arcs:
for each head the pairs of words that it links most strongly, sinks and the word itself left out. Labels are a view of
the scores: fixed thresholds, or with rank=0.05 the 5 % of heads with the largest values. A label whose scores are
missing is open unless the others decide it. correlation is Spearman's over heads, correlation_given_layer its partial
form; overlap is Jaccard's index of two labels, overlap_p the chance of as large an overlap of random heads
(hypergeometric). table=FILE joins scores of other tools: CSV with layer, head, one column each.

How to read: Filter the grid by a label, sort the list by a score, open a head for its scores and arcs. role_share is
how common a label is, role_depth where its heads lie, from 0 (first layer) to 1 (last).

What misleads: Setting one head to zero says little where others stand in for it, and a head that always writes the same
loses more by it than it knows. Thresholds are conventions: levels shift with the length of the texts, BOS and size, and
a view by rank labels heads of a model that does nothing. Labels say what a head looks like in the texts that were read,
not what it is needed for. Scores of one pattern overlap by construction: a previous-token head is also local. Not every
pair of labels is a test of its own; overlap_p is not corrected for their number.

Source: Clark et al. 2019 (arXiv 1906.04341); Olsson et al. 2022 (2209.11895); Wu et al. 2025 (2404.15574); Gu et al.
2025 (2410.10781); the set of labels is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.atlas_findings import Atlas
from depthscope.engine.atlas_runs import joined_digest, joined_scores
from depthscope.engine.atlas_scores import (
    PARTS,
    SOURCES,
    STANDS_ON,
    answerable,
    imported,
    in_errors,
    scores_of,
)
from depthscope.engine.atlas_writes import NO_ABLATION, ablation_need, ablation_rises, own_scores, writes
from depthscope.engine.attending import must_attend
from depthscope.engine.grammar_items import Sentences
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import UnknownName
from depthscope.materials.parses import Parses
from depthscope.measures.dependency import word_attention
from depthscope.ranges import at_least, check_ranges
from depthscope.registry import ANALYSES
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class HeadAtlas:
    """All heads, all scores.

    Args:
        also: further analyses to wait for, such as "function_vectors". without: analyses not to wait for.
        runs: folders of runs of the same model whose scores join, in place of those of this run. digest: of these
            scores; filled in by itself.
        ablate: sentences in which each head alone is set to zero; about half a pass a head and sentence.
        rank: 0 labels by thresholds; a share labels that part of the heads with the largest values.
        table: scores of other tools, a CSV file with layer, head and one column a score.
        arcs: example arcs kept of each head. source, sentences: parsed sentences that arcs and writes are read from,
            "" the packaged ones; see `materials.parses`.
    """

    also: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    digest: str = ""
    ablate: int = 0
    rank: float = 0.0
    table: str = ""
    arcs: int = 4
    source: str = ""
    sentences: int = 24

    def __post_init__(self) -> None:
        for name in (*self.also, *self.without):
            if name not in ANALYSES:
                raise UnknownName("analysis", name, ANALYSES)
        check_ranges(
            self, rank=at_least(0, below=1), arcs=at_least(0), ablate=at_least(0), sentences=at_least(1)
        )
        if self.runs and not self.digest:
            object.__setattr__(self, "digest", joined_digest(self.runs))

    def must_fit(self, model: Model) -> None:
        """Whether the runs and the table are about this model's heads.

        Raises:
            BadInput: where they are not. What reading the table raises.
        """
        self._joined(model)

    def needs(self, anatomy: Anatomy) -> Needs:
        """The scores of others, and all rows and writes of the packaged sentences."""
        must_attend(anatomy)
        names = tuple(n for n in dict.fromkeys((*STANDS_ON, *self.also)) if n not in self.without)
        return Needs(
            frozenset({"L*.head_out"}),
            every_query=1,
            sweeps=ablation_need(anatomy, self.ablate),
            after=answerable(names, anatomy),
            material=Parses(self.source, sentences=self.sentences),
        )

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """What others found, and of these sentences the arcs and how much each head writes; or its ablations."""
        if seen.sweep is not None:
            return Tally({"ablation": ablation_rises(model, batch, seen)})
        anatomy = model.anatomy
        scores = scores_of(given) | self._joined(model)
        ones = np.ones((len(PARTS), anatomy.n_layers, anatomy.n_heads), np.int64)
        tally: dict[str, Sum | Rows | PerDocument] = {f"score.{n}": Sum(v, ones) for n, v in scores.items()}
        group = np.array(anatomy.n_heads // max(1, anatomy.n_kv_heads), np.float64)
        tally["kv_group"] = Sum(group, np.array(1))
        tally |= writes(model, seen)
        if self.arcs:
            tally["arcs"] = _arcs(model, seen)
        return Tally(tally)

    def _joined(self, model: Model) -> dict[str, np.ndarray]:
        """Score -> [part, layer, head] of other runs and of the table."""
        scores, anatomy = joined_scores(self.runs, model), model.anatomy
        return scores | (imported(self.table, anatomy.n_layers, anatomy.n_heads) if self.table else {})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One measurement a score, labels and overlaps, one row a head, and example arcs."""
        scores = {name: np.full((len(PARTS), facts.n_layers, facts.n_heads), np.nan) for name in SOURCES}
        for name, found in total.items():
            if name.startswith("score.") and isinstance(found, Sum):
                scores[name.removeprefix("score.")] = found.total / np.maximum(found.count, 1)
        own = own_scores(total, facts)
        for m in own:
            scores[m.name] = np.stack([_part(m, p) for p in PARTS])
        scores["ablation_errors"] = in_errors(scores["ablation"])
        atlas = Atlas(scores, facts, self.rank)
        found = {m.name: m for m in atlas.measurements()} | {m.name: m for m in own}
        shared = part(total, "kv_group", Sum)
        group = round(float(shared.total / shared.count))
        examples = {"labels": atlas.label_table(), "heads": atlas.head_table(group)}
        if self.arcs:
            examples["arcs"] = _strongest(part(total, "arcs", Rows), self.arcs)
        notes = atlas.gaps() if "ablation" in total else (*atlas.gaps(), NO_ABLATION)
        return Findings(found, examples, notes=notes)


def _part(found: Measurement, name: str) -> np.ndarray:
    values = getattr(found, name)
    return np.full(found.value.shape, np.nan) if values is None else np.asarray(values, np.float64)


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
