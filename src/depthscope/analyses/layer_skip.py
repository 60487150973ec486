"""Layer skip: what breaks when a layer is left out.

Question: How much do the output, each later layer and future tokens change when one layer, or only its attention or
MLP, adds nothing?

Method: Each layer (block), mixer (attention) and MLP is skipped in turn; all later layers run on. output_kl = mean
KL(clean || skipped) of the output, loss_increase = mean rise of the cross-entropy of the true next token, both in nats;
shift = mean |p - p'|, the distance of the two distributions; effect_on_later = sum over positions of |change of a later
layer's block write| over the sum of |clean write|. For future tokens the layer is skipped before a split of the window
only, and effects are measured from the split on (future_*). local_effect feeds each later layer alone with the clean
stream without what the skip took away: the direct path. Position 0 and massive positions keep their clean stream and
are not measured. All skips run in one float32 sweep in which rows join as depth grows and futures branch off their row.
noise_floor is the clean stream riding along in its batches, against itself; means below three times it are shown as 0.

How to read: High bars are layers that the output needs. A row of a map shows who listens to the skipped layer.
half_ratio below one half: the second half of the layers matters less than half as much as the first. Where future_shift
falls and shift does not, late layers serve the prediction at their own position and hardly build what later tokens
read. Layers with little loss are candidates for pruning, not proof: loss is not generation.

What misleads: "Late layers hardly matter" holds for future tokens only; the two curves are two questions. A layer
that writes a sink looks harmless here because the sink is protected; removing it for good is a disaster (see
corpus_statistics/sink_writer). Single skips do not add up: two harmless layers can be harmful together. Largest
values grow with the number of positions and one near-zero write can make them huge.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898), section 4. Their figures are largest values over positions
with only position 0 protected: protect="first" and the measurements *_largest; ratios of sums are the robust form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.skip_findings import Skipped
from depthscope.engine.skip_sums import skip_sums
from depthscope.engine.tally import Part, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class LayerSkip:
    """Skips of every layer and sublayer.

    Args:
        layers: which layers are skipped; empty means all.
        tokens: positions for whole layers. sublayer_tokens: positions for attention and MLP; 0 leaves them out.
        documents: windows.
        protect: "sinks" protects and leaves out position 0 and massive positions, "first" only position 0 (as in the
            paper), "none" skips at every position and measures where "sinks" does.
        future: splits a window for effects on future tokens; 0 leaves them out. reach: positions measured from each.
        local: direct effects too; about as much work again as effects at all tokens.
        sample: positions kept for 95 % quantiles, fewer for very deep models.
    """

    layers: tuple[int, ...] = ()
    tokens: int = 1024
    sublayer_tokens: int = 256
    documents: int = 8
    protect: str = "sinks"
    future: int = 2
    reach: int = 64
    local: bool = False
    sample: int = 1024

    def __post_init__(self) -> None:
        check_ranges(self, sample=at_least(1, what="positions of a quantile"))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Two staircases: whole layers, and sublayers on fewer tokens."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so the effect of a skip on the output cannot be measured")
        wrong = [k for k in self.layers if not 0 <= k < anatomy.n_layers]
        if wrong:
            raise Refused(f"layers {wrong} do not exist, it has layers 0 to {anatomy.n_layers - 1}")
        sweeps = {self._sweep(("block",), self.tokens)}
        if self.sublayer_tokens:
            sweeps.add(self._sweep(("attention", "mlp"), self.sublayer_tokens))
        return Needs(sweeps=frozenset(sweeps))

    def _sweep(self, sublayers: tuple[str, ...], tokens: int) -> SweepNeed:
        return SweepNeed(
            sublayers, self.layers, tokens, self.documents, self.protect,
            future=self.future, reach=self.reach, local=self.local,
        )  # fmt: skip

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Sums of the shared staircase by unit and layer, under the sublayers' names."""
        del given, batch, model
        assert seen.sweep is not None
        found: dict[str, Part] = {}
        for sublayer in seen.sweep.sublayers:
            found |= skip_sums(seen, sublayer, self.sample)
        return Tally(found)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Effects on the output by layer and sublayer, maps of effects on later layers, and summaries over depth."""
        no_future = "" if self.future else "future=0: no window was split"
        no_local = "" if self.local else "local=False: direct effects were not asked for"
        skipped = Skipped(total, facts, no_future, no_local)
        found = [*skipped.outputs(), *skipped.maps(), *skipped.summaries(), *skipped.floors()]
        return Findings({m.name: m for m in found})
