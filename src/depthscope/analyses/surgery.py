"""Surgery: layers left out, exchanged, repeated, mixed up, or run side by side.

Question: Does it matter that the layers run, each once, and in their own order?

Method: The middle of the network is altered, the layers before and behind it stay: `kept` layers, of an odd number
one more before than behind. skip leaves the middle out; reverse and shuffle change its order; repeat_centre runs
the network's central layer as often as the middle has layers; loop runs the middle twice over; parallel_mean and
parallel_sum give all its layers the same input and average their outputs or add their writes; loop_parallel
averages three times over. Besides, each layer alone is left out (drop), exchanged with the next one (swap), or left
without its mixer (attention) or its MLP. loss_increase is the mean rise of the cross-entropy of the true next token
over the intact model at the same positions, in nats; agreement is the share of positions whose most likely token
stays the same. Nothing is protected: what is left out is left out at every position, sinks included. Each plan
starts from the recorded pass where it first differs, in float32.

How to read: Where reverse, shuffle, loop and the parallel plans cost less than skip, the middle layers do their
work out of place and side by side too: they share one space, and their order is not what matters. Where
repeat_centre is far worse than skip, they are alike but not the same. Single layers stand out where agreement falls
far below the rest: mostly the first ones, the last, and a layer that writes a sink.

What misleads: Loss on running text is forgiving: reasoning and arithmetic fail long before it rises much, and so
does generation. A wide middle costs more whatever is done to it, so compare plans of equal `kept`. One shuffle is
one draw. A layer that costs nothing alone may be needed once another one is gone.

Source: Sun et al. 2024, Transformer Layers as Painters (arXiv 2407.09298); Lad et al. 2024, The Remarkable
Robustness of LLMs (arXiv 2406.19384).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import Axes, layers, mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.replayed import must_reorder, outputs, placed
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.orders import Order, evaluations
from depthscope.runtime.surgery import PLANS, SINGLE, middles, single_plans

WHOLE, PARTS = ("drop", "swap"), ("attention", "mlp")
UNITS = {"loss_increase": "nats", "agreement": "probability"}
ABSENT = (
    "the last layer has no next one, the layer has no such sublayer, or sublayers were left out of this run"
)

Cells = dict[tuple[int, int], Order]
"""(row, column) of a measurement -> the order of layers that it is about."""


@dataclass(frozen=True)
class Surgery:
    """Plans on the middle, and on every single layer.

    Args:
        kept: how many layers stay as they are; empty alters the central fifth, two and three fifths.
        loops, parallel_loops: how often `loop` and `loop_parallel` run the middle.
        tokens: positions for plans on whole layers. sublayer_tokens: those for single sublayers; 0 leaves them out.
        documents: windows.
    """

    kept: tuple[int, ...] = ()
    loops: int = 2
    parallel_loops: int = 3
    tokens: int = 1024
    sublayer_tokens: int = 256
    documents: int = 8

    def __post_init__(self) -> None:
        check_ranges(self, loops=at_least(1), parallel_loops=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded windows; refused where layers may not move, and where there is no next token to predict."""
        must_reorder(anatomy, "it has no unembedding, so what surgery does to the output cannot be measured")
        sweeps: set[SweepNeed] = set()
        for tokens in {self.tokens, self.sublayer_tokens} - {0}:
            orders = [o for cells in self._cells(anatomy, tokens, 0).values() for o in cells.values()]
            passes = -(-evaluations(orders) // anatomy.n_layers)
            sweeps.add(SweepNeed((), (), tokens, self.documents, replays=passes))
        return Needs(sweeps=frozenset(sweeps))

    def _cells(self, anatomy: Anatomy, tokens: int, seed: int) -> dict[str, Cells]:
        """What windows of so many tokens are for: plans on the middle [width, plan] and on one layer [layer, kind]."""
        kinds = (WHOLE if tokens == self.tokens else ()) + (PARTS if tokens == self.sublayer_tokens else ())
        found = single_plans(anatomy, kinds)
        single = {(layer, SINGLE.index(kind)): order for (layer, kind), order in found.items()}
        if tokens != self.tokens:
            return {"single_": single}
        middle: Cells = {
            (row, PLANS.index(name)): order
            for row, one in enumerate(middles(anatomy.n_layers, self.kept).values())
            for name, order in one.plans(self.loops, self.parallel_loops, seed).items()
        }
        return {"": middle, "single_": single}

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Rises of the loss, and whether the most likely token stays, of every plan that is run on this shard."""
        del given, batch
        assert seen.sweep is not None
        anatomy = model.anatomy
        groups = self._cells(anatomy, seen.sweep.tokens, seen.seed)
        shapes = {
            "": (len(middles(anatomy.n_layers, self.kept)), len(PLANS)),
            "single_": (anatomy.n_layers, 4),
        }
        found = outputs(seen.seen, [o for cells in groups.values() for o in cells.values()], seen.units)
        values = {"loss_increase": found.increase(), "agreement": found.agreement()}
        parts = {"intact": found.intact()} if "" in groups else {}
        first = 0
        for group, cells in groups.items():
            for name, value in values.items():
                parts[group + name] = placed(value, first, list(cells), shapes[group])
            first += len(cells)
        return Tally(parts)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Loss and agreement of every plan, and the intact loss they are compared with."""
        note = "every position with a next token, sinks included"
        found = [mean(part(total, "intact", PerDocument), "intact_loss", {}, "nats", facts, note)]
        kept = np.array(list(middles(facts.n_layers, self.kept)))
        middle: Axes = {"kept": kept, "variant": np.array(PLANS)}
        single: Axes = {**layers(facts), "variant": np.array(SINGLE)}
        for name, unit in UNITS.items():
            found.append(mean(part(total, name, PerDocument), name, middle, unit, facts, note))
            one = part(total, f"single_{name}", PerDocument)
            gaps = ABSENT if (one.counts.sum(0) == 0).any() else ""
            found.append(mean(one, f"single_{name}", single, unit, facts, note, gaps))
        return Findings({m.name: m for m in found})
