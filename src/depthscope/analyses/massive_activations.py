"""Massive activations: a few entries of the stream thousands of times larger than the rest.

Question: Which entries of which states are massive, what writes them, and does the model need them?

Method: An entry of a state is massive where it is above 100 in size and at least 1000 times the median size of its
text's state. For every state: the largest entry, the median, their ratio, and log_score, how many standard deviations
the logarithm of the largest lies above the mean logarithm, which does not fail where the median grows. onset_share says
at which state texts are massive first. There, some texts are edited: massive entries are set to zero, to the mean of
their channel over texts, or as many other channels of the same tokens are set to zero (random); then come the loss, the
share of heads behind the onset that rest on a massive position (mean attention above 0.3) and the entropy of attention.
producer_neuron is the MLP neuron of the layer before the onset that adds most to the largest entry. bias_constancy is
mean |u_t - mean u| / |mean u| of what heads draw from massive keys, u_t = sum of A_ti v_i, over the second half of a
text, beside as many other keys.

How to read: loss_increase large for zero and near nothing for mean says that the entries serve as constants. sink_share
falls with them where sinks stand on them. A bias_constancy near 0 says that what is drawn is the same for every token.

What misleads: The rule of 1000 is broad: an entry of 850 medians is as strange. A later layer may write an entry anew
that was set to zero at the first. Means are over the texts of one shard. In bfloat16 large entries are rounded
coarsely.

Source: Sun et al. 2024 (arXiv 2402.17762), the criterion, zero and mean; Yu et al. 2024 (2411.07191), the one weight.
log_score, the random channels and bias_constancy are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.massive_census import Criterion, census, census_findings
from depthscope.engine.massive_edits import EDITS, edits_tally
from depthscope.engine.measured import difference, mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.measures.sinks import MAGNITUDE, RATIO
from depthscope.ranges import above, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class MassiveActivations:
    """Massive entries of every state, and the edits that take them away.

    Args:
        magnitude, ratio: the criterion. tokens, documents: positions over all edited texts, and how many texts.
    """

    magnitude: float = MAGNITUDE
    ratio: float = RATIO
    tokens: int = 1024
    documents: int = 8

    def __post_init__(self) -> None:
        check_ranges(self, magnitude=above(0), ratio=above(1, what="times the median"))
        self._sweep()

    def _sweep(self) -> SweepNeed:
        return SweepNeed(tokens=self.tokens, documents=self.documents, protect="none", replays=4)

    def needs(self, anatomy: Anatomy) -> Needs:
        """All states, and some recorded texts."""
        del anatomy
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), sweeps=frozenset({self._sweep()}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Counts in the capture; edits in the recorded texts."""
        del batch, given
        criterion = Criterion(self.magnitude, self.ratio)
        return census(model, seen, criterion) if seen.sweep is None else edits_tally(model, seen, criterion)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves over states, what the edits cost, producers, and how constant what is drawn is."""
        found, table = census_findings(total, facts)
        found += _edits(total, facts)
        found += _producers(total, facts)
        by = {"layer": np.arange(facts.n_layers), "variant": np.asarray(("massive", "random"))}
        none = "the layer has no heads that see the whole text, or no early key is massive in what it reads"
        constancy = part(total, "bias_constancy", PerDocument)
        found.append(mean(constancy, "bias_constancy", by, "1", facts, "mean over heads", none))
        return Findings({m.name: m for m in found}, {"entries": table})


def _edits(total: Tally, facts: Facts) -> list[Measurement]:
    """Loss, sinks and entropy under every edit, and what each edit adds to the loss."""
    by = {"variant": np.asarray(EDITS)}
    none = "no edited text has a massive entry, or there is nothing to measure it by"
    units = {"loss": "nats", "sink_share": "probability", "entropy_norm": "1"}
    found = [
        mean(part(total, name, PerDocument), name, by, unit, facts, "texts with a massive entry", none)
        for name, unit in units.items()
    ]
    loss = part(total, "loss", PerDocument)
    clean = PerDocument(loss.units, loss.sums[:, [0] * len(EDITS)], loss.counts[:, [0] * len(EDITS)])
    note = "against the clean pass of the same texts"
    return [*found, difference(clean, loss, "loss_increase", by, "nats", facts, note, none)]


def _producers(total: Tally, facts: Facts) -> list[Measurement]:
    """By layer: the neuron that is the producer in most texts whose onset follows it, and its mean share."""
    columns = part(total, "producers", Rows).columns
    neuron, share = (np.full(facts.n_layers, np.nan) for _ in range(2))
    count = np.zeros(facts.n_layers, np.int64)
    for layer in range(facts.n_layers):
        own = columns["layer"] == layer
        count[layer] = own.sum()
        if own.any():
            ids, often = np.unique(columns["neuron"][own], return_counts=True)
            neuron[layer] = ids[often.argmax()]
            share[layer] = columns["share"][own & (columns["neuron"] == neuron[layer])].mean()
    by, none = {"layer": np.arange(facts.n_layers)}, "no edited text is massive first behind this layer's MLP"
    said = {"producer_neuron": neuron, "producer_share": share}
    note = "the largest term of the largest entry, over the sum of all neurons' terms"
    return [
        Measurement(name, by, value, "1", n=count, n_items=count, note=note, missing=none)
        for name, value in said.items()
    ]
