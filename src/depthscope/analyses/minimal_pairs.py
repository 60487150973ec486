"""Minimal pairs: whether the model finds the grammatical sentence more likely.

Question: Does the model know a rule of grammar, so that it gives the right sentence more probability than the wrong?

Method: Each pair is two sentences that differ in what the rule is about. A sentence's log-probability is the sum over
its tokens, in nats; the first one counts only behind a BOS token. accuracy is the share of pairs whose right sentence
is the more probable, by paradigm (a kind of pair) and by field of grammar. margin is the mean difference in nats. The
synthetic agreement grammar needs no data: verbs in the wrong number, with and without a noun of the other number in
between. BLiMP is read by path. good_loss is the mean loss of a token of the right sentences.

How to read: 0.5 is chance. A paradigm below chance is a preference for the wrong sentence, often for one that is
shorter or more usual. Attractors pull the verb's number away from its subject: the gap to pairs without one is what
they cost.

What misleads: Sums favour short sentences: where a pair differs in length, so does its probability. Preferring the
right sentence is no knowledge of why. The words of the synthetic grammar are few and easy.

Source: Warstadt et al. 2020, BLiMP; Linzen et al. 2016 on agreement across attractors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.text_loss import text_loss
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.minimal_pairs import MinimalPairSentences
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class MinimalPairs:
    """Right sentences against wrong ones.

    Args:
        source, pairs: see `materials.minimal_pairs`.
    """

    source: str = "agreement"
    pairs: int = 40

    def needs(self, anatomy: Anatomy) -> Needs:
        """Last states of all sentences; refused where no next token is predicted."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so a sentence has no probability")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so a sentence has no probability token by token")
        last = f"L{anatomy.n_layers - 1}.resid_post"
        return Needs(frozenset({last}), material=MinimalPairSentences(self.source, self.pairs))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a sentence: its log-probability and its tokens."""
        del given
        end = seen[f"L{model.anatomy.n_layers - 1}.resid_post"]
        count = batch.length - 1
        logs = -text_loss(model, end, batch.ids) * count
        about = [w.about for w in seen.windows]
        columns = {
            "log_probability": logs,
            "tokens": np.full(len(logs), count, np.int64),
            "good": np.array([a["side"] == "good" for a in about]),
            "paradigm": np.array([a["paradigm"] for a in about], dtype="U64"),
            "field": np.array([a["field"] for a in about], dtype="U64"),
            "unit": np.array([w.document for w in seen.windows], dtype=str),
        }
        return Tally(
            {"sentences": Rows(np.array([w.index for w in seen.windows], np.uint64), columns, 10**7)}
        )

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Accuracy and margin, in all, by paradigm and by field."""
        pairs = Judged.of(part(total, "sentences", Rows).columns)
        tasks = {"task": np.unique(pairs.paradigm)}
        fields = {"feature": np.unique(pairs.field)}
        right = (pairs.margin > 0).astype(np.float64)
        found = [
            mean(pairs.by(right), "accuracy", {}, "probability", facts, "all pairs"),
            mean(pairs.by(right, pairs.paradigm), "paradigm_accuracy", tasks, "probability", facts),
            mean(pairs.by(right, pairs.field), "field_accuracy", fields, "probability", facts),
            mean(pairs.by(pairs.margin), "margin", {}, "nats", facts, "right minus wrong, sums over tokens"),
            mean(pairs.by(pairs.margin, pairs.paradigm), "paradigm_margin", tasks, "nats", facts),
            mean(pairs.loss, "good_loss", {}, "nats", facts, "mean of a token of the right sentences"),
        ]
        return Findings({m.name: m for m in found})


@dataclass(frozen=True)
class Judged:
    """Pairs of which both sentences were read.

    Args:
        margin: log-probability of the right sentence minus that of the wrong one. loss: of the right sentences.
    """

    units: np.ndarray
    paradigm: np.ndarray
    field: np.ndarray
    margin: np.ndarray
    loss: PerDocument

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> Judged:
        """Join the two sentences of each pair by its unit."""
        good = columns["good"]
        names, first, second = np.intersect1d(
            columns["unit"][good], columns["unit"][~good], return_indices=True
        )
        own, other = np.flatnonzero(good)[first], np.flatnonzero(~good)[second]
        logs = columns["log_probability"]
        loss = PerDocument.of_sums(list(names), -logs[own], columns["tokens"][own])
        return cls(names, columns["paradigm"][own], columns["field"][own], logs[own] - logs[other], loss)

    def by(self, values: np.ndarray, group: np.ndarray | None = None) -> PerDocument:
        """One value a pair, in the cell of its group where there are groups."""
        if group is None:
            return PerDocument.of(list(self.units), values)
        cells = np.unique(group)
        spread = np.where(group[:, None] == cells, values[:, None], np.nan)
        return PerDocument.of(list(self.units), spread)
