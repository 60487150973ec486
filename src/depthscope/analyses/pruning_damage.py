"""Pruning damage: what really happens when each criterion removes its layers.

Question: How much does the loss rise when the layers that a criterion ranks lowest are removed together?

Method: For every criterion of pruning_criteria and every size, the layers of lowest rank are removed for good, at
every position and without any training, and the rest of the model runs on in float32: loss_increase is the mean
rise of the cross-entropy of the true next token, in nats, agreement the share of positions whose most likely token
stays. angular removes the flattest stretch of that length, attention and mlp remove only these sublayers of as many
layers, random one seeded draw. With mode=ranked the criterion is taken at its word; with mode=protected the first
and last layer and those that change a sink stay, and the next ones in rank go instead. Orders share what they begin
with, so each shared beginning runs once.

How to read: The lowest curve is the criterion to prune by. The distance between ranked and protected is what
protection is worth: it is large where a criterion does not see the layer that writes the sink. A criterion that is
no better than random has learnt nothing about this model.

What misleads: Criteria were taken from the same text, so loss has a small advantage over the others. Low loss is
not intact ability: arithmetic and generation fail long before. One random draw is one draw.

Source: Men et al. 2024 (arXiv 2403.03853); Gromov et al. 2024 (arXiv 2403.17887), whose rule of the deepest layers
holds for large models; Kim et al. 2024 (arXiv 2402.02834).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.criteria import CRITERIA, flattest, lowest
from depthscope.engine.measured import Axes, mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.replayed import must_reorder, outputs, placed
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.orders import Order, without
from depthscope.runtime.replay import Without

MODES = ("ranked", "protected")
REMOVERS = (*CRITERIA, "angular", "random")
SIZES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)
ABSENT = "there are not so many layers (or stretches, or sublayers of this kind) that may go"


@dataclass(frozen=True)
class PruningDamage:
    """Removals of the layers that criteria rank lowest.

    Args:
        sizes: how many layers go; empty takes 1, 2, 3, 4, 6, 8, 10 and on, up to a third of the layers.
        tokens: positions over all windows. documents: windows.
    """

    sizes: tuple[int, ...] = ()
    tokens: int = 512
    documents: int = 8

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded windows, behind the criteria and the list of sink writers."""
        must_reorder(anatomy, "it has no unembedding, so the loss of a removal cannot be measured")
        sizes = self._sizes(anatomy.n_layers)
        wrong = [n for n in sizes if not 0 < n < anatomy.n_layers]
        if wrong:
            raise BadInput(
                f"sizes={wrong}; of {anatomy.n_layers} layers 1 to {anatomy.n_layers - 1} can be removed"
            )
        passes = len(MODES) * len(REMOVERS) * len(sizes) * 2 // 3
        need = SweepNeed((), (), self.tokens, self.documents, replays=passes)
        return Needs(sweeps=frozenset({need}), after=("corpus_statistics", "pruning_criteria"))

    def _sizes(self, n_layers: int) -> tuple[int, ...]:
        return tuple(sorted(set(self.sizes))) or tuple(n for n in SIZES if n <= max(1, n_layers // 3))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Rises of the loss and kept top-1 of every removal on this shard."""
        del batch
        sizes = self._sizes(model.anatomy.n_layers)
        cells = removals(given, sizes, seen.seed)
        orders = {cell: _order(model.anatomy, REMOVERS[cell[1]], gone) for cell, gone in cells.items()}
        found = outputs(seen.seen, list(orders.values()), seen.units)
        shape = (len(MODES), len(REMOVERS), len(sizes))
        return Tally({
            "loss_increase": placed(found.increase(), 0, list(orders), shape),
            "agreement": placed(found.agreement(), 0, list(orders), shape),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Damage curves by what is left."""
        kept = facts.n_layers - np.array(self._sizes(facts.n_layers))
        axes: Axes = {"mode": np.array(MODES), "criterion": np.array(REMOVERS), "kept": kept}
        note = "layers removed at every position; every position with a next token; nothing was trained"
        found: list[Measurement] = []
        for name, unit in (("loss_increase", "nats"), ("agreement", "probability")):
            one = part(total, name, PerDocument)
            gaps = ABSENT if (one.counts.sum(0) == 0).any() else ""
            found.append(mean(one, name, axes, unit, facts, note, gaps))
        return Findings({m.name: m for m in found})


def removals(
    given: Mapping[str, Result], sizes: tuple[int, ...], seed: int
) -> dict[tuple[int, int, int], tuple[int, ...]]:
    """(mode, remover, size) -> the layers that go, from the results of pruning_criteria and corpus_statistics."""
    criteria = given["pruning_criteria"]
    rank, angles = criteria["rank"].value, criteria["angular"]
    writers = given["corpus_statistics"]["sink_writer"].value > 0
    stays = np.flatnonzero((criteria["protected"].value > 0) | writers).tolist()
    drawn = np.random.default_rng(seed).permutation(rank.shape[1]) + 1.0
    by = dict(zip(REMOVERS, [*rank, None, drawn], strict=True))
    found: dict[tuple[int, int, int], tuple[int, ...]] = {}
    for m, mode in enumerate(MODES):
        kept = stays if mode == "protected" else []
        for c, name in enumerate(REMOVERS):
            for s, size in enumerate(sizes):
                order = by[name]
                gone = _stretch(angles, size, kept) if order is None else lowest(order, size, kept)
                if gone is not None:
                    found[m, c, s] = gone
    return found


def _stretch(angles: Measurement, size: int, stays: list[int]) -> tuple[int, ...] | None:
    """The flattest stretch of that many layers; None where none is free or pruning_criteria measured none so long."""
    left = len(angles.axes["layer"]) - size
    if left not in np.asarray(angles.axes["kept"]).tolist():
        return None
    return flattest(angles.select(kept=left).value, size, stays)


def _order(anatomy: Anatomy, name: str, gone: tuple[int, ...]) -> Order:
    """What is left to run when layers, or only their mixers or MLPs, are gone."""
    if name == "attention":
        return tuple(Without(k, "attention") if k in gone else k for k in range(anatomy.n_layers))
    if name == "mlp":
        return tuple(Without(k, "mlp") if k in gone else k for k in range(anatomy.n_layers))
    return without(anatomy.n_layers, gone)
