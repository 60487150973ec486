"""Minimal pairs: whether the model finds the grammatical sentence more likely.

Question: Does the model know a rule of grammar, so that it gives the right sentence more probability than the wrong?

Method: Each pair is two sentences that differ in what the rule is about. A sentence's log-probability is the sum over
its tokens, in nats; the first one counts only behind a BOS token. A model of masked words has no such sum: each token
of a sentence in turn is covered by the mask, all others in sight, and the log-probabilities of what was there are added
up (pseudo-log-likelihood); special tokens count nowhere. accuracy is the share of pairs whose right sentence
is the more probable, by paradigm (a kind of pair) and by field of grammar. margin is the mean difference in nats. The
synthetic agreement grammar needs no data: verbs in the wrong number, with and without a noun of the other number in
between. BLiMP is read by path. good_loss is the mean loss of a token of the right sentences.

How to read: 0.5 is chance. A paradigm below chance is a preference for the wrong sentence, often for one that is
shorter or more usual. Attractors pull the verb's number away from its subject: the gap to pairs without one is what
they cost.

What misleads: Sums favour short sentences: where a pair differs in length, so does its probability. A
pseudo-log-likelihood is no probability: rare words of many tokens come out too likely, since each token is guessed from
the rest of its word, and its losses cannot be compared with those of a causal model. Preferring the
right sentence is no knowledge of why. The words of the synthetic grammar are few and easy.

Source: Warstadt et al. 2020, BLiMP; Salazar et al. 2020 (arXiv 1910.14659) on masked models; Linzen et al. 2016 on
agreement across attractors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.text_loss import masked_loss, text_loss
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
        """Last states of all sentences, covered token by token for a masked model; refused without an unembedding."""
        if not anatomy.has_unembedding():
            raise Refused(
                "it has no unembedding (no next-token and no masked head): a sentence has no probability"
            )
        last, masked = f"L{anatomy.n_layers - 1}.resid_post", not anatomy.family.causal
        return Needs(frozenset({last}), material=MinimalPairSentences(self.source, self.pairs, masked))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a sentence, or a covered token of one: its log-probability and its tokens."""
        del given
        end = seen[f"L{model.anatomy.n_layers - 1}.resid_post"]
        about = [w.about for w in seen.windows]
        count = batch.length - 1
        if model.anatomy.family.causal:
            logs = -text_loss(model, end, batch.ids) * count
        else:
            places, targets = (torch.tensor([a[key] for a in about]) for key in ("masked", "target"))
            logs, count = -masked_loss(model, end, places, targets), 1
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
        how = (
            "sums over tokens"
            if facts.causal
            else "sums over tokens, each covered in turn (pseudo-log-likelihood)"
        )
        found = [
            mean(pairs.by(right), "accuracy", {}, "probability", facts, "all pairs"),
            mean(pairs.by(right, pairs.paradigm), "paradigm_accuracy", tasks, "probability", facts),
            mean(pairs.by(right, pairs.field), "field_accuracy", fields, "probability", facts),
            mean(pairs.by(pairs.margin), "margin", {}, "nats", facts, f"right minus wrong; {how}"),
            mean(pairs.by(pairs.margin, pairs.paradigm), "paradigm_margin", tasks, "nats", facts),
            mean(
                pairs.loss, "good_loss", {}, "nats", facts, f"mean of a token of the right sentences; {how}"
            ),
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
        """Add up what each sentence consists of, then join the two sentences of each pair by its unit."""
        sides = {
            good: _added({k: v[columns["good"] == good] for k, v in columns.items()})
            for good in (True, False)
        }
        right, wrong = sides[True], sides[False]
        names, own, other = np.intersect1d(right["unit"], wrong["unit"], return_indices=True)
        logs = right["log_probability"][own]
        loss = PerDocument.of_sums(list(names), -logs, right["tokens"][own])
        margin = logs - wrong["log_probability"][other]
        return cls(names, right["paradigm"][own], right["field"][own], margin, loss)

    def by(self, values: np.ndarray, group: np.ndarray | None = None) -> PerDocument:
        """One value a pair, in the cell of its group where there are groups."""
        if group is None:
            return PerDocument.of(list(self.units), values)
        cells = np.unique(group)
        spread = np.where(group[:, None] == cells, values[:, None], np.nan)
        return PerDocument.of(list(self.units), spread)


def _added(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of equal unit as one: log-probabilities and tokens added up."""
    names, first, place = np.unique(columns["unit"], return_index=True, return_inverse=True)
    logs, tokens = (np.bincount(place, columns[key], len(names)) for key in ("log_probability", "tokens"))
    kept = {key: columns[key][first] for key in ("paradigm", "field")}
    return {"unit": names, "log_probability": logs, "tokens": tokens.astype(np.int64), **kept}
