"""Greedy pruning: a search for the layers that can be removed together at the least loss.

Question: Which layers can go together, when each step removes the one whose removal costs least next?

Method: From the intact model on, every free layer is removed on trial, and the sets of lowest loss on the text are
kept, as many as the beam holds; each grows by one more layer. After the first step only the layers that ranked best
in the step before are tried again (lazy). Nothing is trained; a removed layer is gone at every position. The first
layer, the last, and those that make or take away a sink are never tried. Sets share what they begin with: calls
counts the blocks that ran, separate those that would have run with every set on its own from the first block.

How to read: loss_increase is the cost of the best set of each size, removed says which layers it holds and in which
order they went. Where the curve turns upwards is as far as this model goes without training.

What misleads: The sets were chosen on the very text that their loss is measured on, so the curve is a little too
good. Loss is not ability: generation and arithmetic fail first. A beam is not exhaustive.

Source: Song et al. 2024, SLEB (arXiv 2402.09025); the lazy order and the beam are of this study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.engine.measured import Axes, layers, mean
from depthscope.engine.needs import Facts
from depthscope.engine.removal import Level, removal_order
from depthscope.engine.study import Work
from depthscope.engine.tally import PerDocument
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings


@dataclass(frozen=True)
class GreedyPruning:
    """A search on the text of a study.

    Args:
        remove: the largest set; 0 for a third of the layers.
        lazy: layers tried in each step after the first; 0 tries all. beam: sets kept at each step.
        protect: layers that stay besides the first, the last, and those that change a sink.
    """

    remove: int = 0
    lazy: int = 5
    beam: int = 3
    protect: tuple[int, ...] = ()

    def depends(self) -> Mapping[str, Any]:
        """Nothing besides model, text, seed and parameters."""
        return {}

    def run(self, work: Work) -> Findings:
        """The best set of each size; finished steps are in the journal.

        Raises:
            Refused, BadInput: what `removal_order` raises.
        """
        anatomy = work.model.anatomy
        found = removal_order(
            work.model, [w.ids for w in work.windows.items if len(w.ids) > 1],
            self.remove or max(1, anatomy.n_layers // 3),
            units=[u for u, w in zip(work.units, work.windows.items, strict=True) if len(w.ids) > 1],
            also=self.protect, lazy=self.lazy, beam=self.beam, journal=work.journal, progress=work.progress,
        )  # fmt: skip
        facts = Facts.of(anatomy, work.kind, work.seed, work.model.name)
        words = ", ".join(f"layer {k} ({reason})" for k, reason in found.kept_back.items())
        return Findings({m.name: m for m in _measured(found.levels, facts)}, notes=(f"Protected: {words}.",))


def _measured(levels: tuple[Level, ...], facts: Facts) -> list[Measurement]:
    kept = facts.n_layers - np.arange(1, len(levels) + 1)
    by: Axes = {"kept": kept}
    sums, counts = (np.stack([getattr(x.increase, c) for x in levels], 1) for c in ("sums", "counts"))
    units = levels[0].increase.units
    place = np.zeros((len(levels), facts.n_layers))
    for row, level in enumerate(levels):
        place[row, list(level.removed)] = np.arange(1, len(level.removed) + 1)
    note = "place in the order of removal; 0 where the layer stays"
    return [
        mean(PerDocument(units, sums, counts), "loss_increase", by, "nats", facts, "best set of each size"),
        Measurement("removed", {"kept": kept, **layers(facts)}, place, "1", note=note),
        *(
            Measurement(name, {"kept": kept}, np.array([float(getattr(x, name)) for x in levels]), "1", note=said)
            for name, said in (
                ("tried", "sets that were evaluated"), ("calls", "blocks that ran for them, a batch"),
                ("separate", "blocks that would run with every set on its own, a batch"),
            )
        ),
    ]  # fmt: skip
