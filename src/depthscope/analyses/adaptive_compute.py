"""Adaptive compute: at which depth a prediction is nearly what it will be, for how many tokens that is late or early.

Question: Do some tokens need nearly all of the depth while others are done early, and do layers repeat what others do?

Method: At hash-sampled positions, or with `written` at the positions that predict what the model itself writes after
the beginnings of texts, every state is read through the lens of the run and compared with the final state by the
Jensen-Shannon divergence. A position has settled at the first state whose divergence is below `threshold`, which is
meant in bits (half of the most that two distributions can differ) or in nats (0.72 of it). deep_share is the share of
positions that settle only in the last 15 % of the states, early_share of those in the first half, settled the mean
state, settled_histogram the share by state. write_cosine is the mean cosine of what two layers add at one position,
sinks left out. Where a block runs several times (a looped network, unrolled), block says which block a layer is, and
repeat_cosine is the mean cosine between passes of the same block and between layers that are different blocks.

How to read: Early and deep shares that are both large say that tokens differ in the depth they need. A histogram in one
narrow peak says that all take the same. A repeat_cosine near 1 for the same block says that its passes write the same
again; near that of different blocks, that each pass does something of its own.

What misleads: A depth is that of a lens: through the raw head of a small model nearly every token settles late. A state
that comes close by chance counts, even if later ones are far away again. Shares depend on the threshold; compare models
by the histogram. The cosine of writes does not see that two layers do the same to different inputs.

Source: Deep-thinking ratio, arXiv 2602.13517, as recalled: 0.5, 15 %, on generated text; looped networks, Csordas
et al. 2025 (arXiv 2505.13898).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import layers, mean, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.written import Written
from depthscope.measures.onset import first_onset
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

UNITS = {"bits": math.log(2), "nats": 1.0}
"""How a threshold is meant -> nats in one of it."""
NO_REPEATS = "no block runs more than once"


@dataclass(frozen=True)
class AdaptiveCompute:
    """Depths at which predictions settle by their divergence from the final one, and layers that repeat each other.

    Args:
        positions: hash-sampled positions that are decoded at all states. threshold: of the divergence, above 0 and
            below ln 2. late: share of the states, from the last one down, that counts as deep. written: tokens that the
            model writes after each of `prompts` beginnings and that are looked at; 0 looks at the run's text.
    """

    positions: int = 512
    threshold: float = 0.5
    late: float = 0.15
    written: int = 0
    prompts: int = 16

    def __post_init__(self) -> None:
        check_ranges(self, positions=at_least(1), written=at_least(0), prompts=at_least(1))
        check_ranges(self, threshold=above(0, below=math.log(2)), late=above(0, below=1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The divergence of every state; refused without an unembedding, and where a model that writes is asked for."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so there is no prediction to settle")
        if self.written and not anatomy.family.causal:
            raise Refused("it is no causal language model, so it writes nothing")
        material = Written(self.written, count=self.prompts) if self.written else None
        sites = frozenset({"L0.resid_pre", "L*.resid_post"})
        return Needs(sites, Decode(jsd=True), self.positions, material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Divergences by state, where each position settles by both thresholds, and cosines of writes."""
        del batch, given
        decoded = seen.decoded
        assert decoded.trace.jsd is not None
        jsd = decoded.trace.jsd.T.cpu().double()
        settled = torch.stack(
            [first_onset(jsd < self.threshold * unit) for unit in UNITS.values()], -1
        ).numpy()
        by_state = (settled[..., None] == np.arange(jsd.shape[1])).astype(np.float64)
        cosines = _cosines(seen.states_at(decoded.rows, decoded.positions))
        cosines[seen.sinks[decoded.rows, decoded.positions]] = torch.nan
        blocks = np.asarray(model.provenance.get("steps", range(model.anatomy.n_layers)), np.float64)
        return Tally({
            "jsd": PerDocument.of(decoded.units, jsd.numpy()),
            "settled": PerDocument.of(decoded.units, settled.astype(np.float64)),
            "settled_histogram": PerDocument.of(decoded.units, by_state),
            "write_cosine": PerDocument.of(decoded.units, cosines.cpu().double().numpy()),
            "blocks": Sum(blocks, np.ones(len(blocks), np.int64)),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Means and shares over positions."""
        axes = {"definition": np.array(list(UNITS))}
        found, last = part(total, "settled_histogram", PerDocument), facts.n_layers
        deep, early = np.arange(last + 1) > (1 - self.late) * last, np.arange(last + 1) <= last / 2
        note = f"of positions; below {self.threshold:g} bits or nats"
        ends = (
            f"{note}; at states above {(1 - self.late) * last:g} of {last}",
            f"{note}; up to state {last // 2}",
        )
        cosines, blocks = part(total, "write_cosine", PerDocument), part(total, "blocks", Sum)
        measured = [
            mean(_within(found, deep), "deep_share", axes, "probability", facts, ends[0]),
            mean(_within(found, early), "early_share", axes, "probability", facts, ends[1]),
            mean(part(total, "settled", PerDocument), "settled", axes, "1", facts, f"mean state, 0 to {last}"),
            mean(found, "settled_histogram", {**axes, **states(facts)}, "probability", facts, note),
            mean(part(total, "jsd", PerDocument), "jsd", states(facts), "nats", facts, "at most ln 2"),
            *_repeats(cosines, np.round(blocks.total / blocks.count).astype(int), facts),
        ]  # fmt: skip
        return Findings({m.name: m for m in measured})


def _cosines(states: Float[Tensor, "state item d_model"]) -> Float[Tensor, "item layer later_layer"]:
    """Cosine of what every two layers add at a position; 0 where one adds nothing, NaN for a layer with itself."""
    writes = torch.nn.functional.normalize(states.diff(dim=0), dim=-1).transpose(0, 1)
    found = writes @ writes.transpose(1, 2)
    depth = found.shape[-1]
    upper = torch.ones(depth, depth, dtype=torch.bool, device=found.device).triu(1)
    return torch.where(upper, found, torch.nan)


def _within(found: PerDocument, where: np.ndarray) -> PerDocument:
    """The share of positions that settle in some of the states."""
    return PerDocument(found.units, found.sums[..., where].sum(-1), found.counts[..., 0])


def _repeats(cosines: PerDocument, block: np.ndarray, facts: Facts) -> list[Measurement]:
    """Cosines of all pairs of layers, and their means over passes of one block and over different blocks."""
    pairs = {**layers(facts), "later_layer": np.arange(facts.n_layers)}
    later = np.triu(np.ones((facts.n_layers, facts.n_layers), bool), 1)
    same = later & (block[:, None] == block)
    sums, counts = (
        np.stack([values[:, where].sum(-1) for where in (same, later & ~same)], -1)
        for values in (cosines.sums, cosines.counts)
    )
    missing = (
        "" if same.any() and (later & ~same).any() else NO_REPEATS if not same.any() else "only one block"
    )
    note = "mean cosine of two layers' writes at one position, sinks left out"
    modes = {"mode": np.array(["same_block", "other_block"])}
    return [
        mean(cosines, "write_cosine", pairs, "1", facts, note, "a layer is compared with later ones only"),
        mean(PerDocument(cosines.units, sums, counts), "repeat_cosine", modes, "1", facts, note, missing),
        Measurement("block", layers(facts), block.astype(np.float64), "1", note="the block that a layer is"),
    ]
