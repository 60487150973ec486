"""Layer skip: what breaks when a layer is left out.

Question: How much do the output and each later layer change when one layer, or only its attention or MLP,
adds nothing?

Method: Each layer (block), mixer (attention) and MLP is skipped in turn; all later layers run on. output_kl
= mean KL(clean || skipped) of the output, loss_increase = mean rise of the cross-entropy of the true next
token, both in nats; effect_on_later = sum over positions of |change of a later layer's block write| over
the sum of |clean write|. Position 0 and massive positions keep their clean stream and are not measured. All
skips run in one float32 sweep in which rows join as depth grows. noise_floor is the clean stream riding along in its
batches, against itself; means below three times it are shown as 0.

How to read: High bars are layers that the output needs. A row of the map shows who listens to the skipped
layer. Layers with little loss are candidates for pruning, not proof: loss is not generation.

What misleads: A layer that writes a sink looks harmless here because the sink is protected; removing it for
good is a disaster (see corpus_statistics/sink_writer). Single skips do not add up: two harmless layers can
be harmful together.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898), section 4; the robust forms are ratios of sums,
not maxima.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import layers, mean, part, ratio
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import PerDocument, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.sweep import Effects

SUBLAYERS = ("attention", "block", "mlp")
FLOOR = 3.0


@dataclass(frozen=True)
class LayerSkip:
    """Skips of every layer and sublayer.

    Args:
        layers: which layers are skipped; empty means all.
        tokens: positions for whole layers. sublayer_tokens: positions for attention and MLP; 0 leaves them out.
        documents: windows.
        protect: "sinks", or "none" to skip at every position.
    """

    layers: tuple[int, ...] = ()
    tokens: int = 1024
    sublayer_tokens: int = 256
    documents: int = 8
    protect: str = "sinks"

    def needs(self, anatomy: Anatomy) -> Needs:
        """Two staircases: whole layers, and sublayers on fewer tokens."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so the effect of a skip on the output cannot be measured")
        wrong = [k for k in self.layers if not 0 <= k < anatomy.n_layers]
        if wrong:
            raise Refused(f"layers {wrong} do not exist, it has layers 0 to {anatomy.n_layers - 1}")
        shared = (self.documents, self.protect)
        sweeps = {SweepNeed(("block",), self.layers, self.tokens, *shared)}
        if self.sublayer_tokens:
            sweeps.add(SweepNeed(("attention", "mlp"), self.layers, self.sublayer_tokens, *shared))
        return Needs(sweeps=frozenset(sweeps))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Sums of the shared staircase by unit and layer, under the sublayers' names."""
        del given, batch
        effects, need = seen.effects, seen.sweep
        assert need is not None
        found: dict[str, PerDocument | Sum] = {}
        for sublayer in need.sublayers:
            place = {
                int(n.partition(".")[0]): k for k, n in enumerate(effects.names) if n.endswith(f".{sublayer}")
            }
            for name, value, count in (
                ("output_kl", effects.output_kl, effects.positions),
                ("loss_increase", effects.loss_increase, effects.targets),
            ):
                found[f"{name}[sublayer={sublayer}]"] = _by_layer(
                    value.numpy(), count.numpy(), place, seen.units, model
                )
            if sublayer == "block":
                found |= _changes(effects, place, seen.units, model)
                weight = np.asarray(float(effects.positions.sum()))
                floors = np.array([effects.floor_kl, effects.floor_loss, *effects.floor_changed.numpy()])
                found["floor"] = Sum(floors * weight, np.broadcast_to(weight, floors.shape).astype(np.int64))
        return Tally(found)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Effects on the output by layer and sublayer, and the map of effects on later layers."""
        floor = part(total, "floor", Sum)
        level = floor.total / np.maximum(floor.count, 1)
        found = [
            _output(total, "output_kl", FLOOR * level[0], facts),
            _output(total, "loss_increase", FLOOR * level[1], facts),
            _map(total, FLOOR * level[2:], facts),
            Measurement(
                "noise_floor",
                {},
                np.asarray(level[0]),
                "nats",
                note="mean output KL of the clean pass against itself",
            ),
        ]
        return Findings({m.name: m for m in found})


def _by_layer(
    value: np.ndarray, count: np.ndarray, place: dict[int, int], units: tuple[str, ...], model: Model
) -> PerDocument:
    """[variant row] -> sums and counts by (unit, layer); layers that were not skipped have count 0."""
    sums = np.zeros((len(units), model.anatomy.n_layers))
    counts = np.zeros(sums.shape, np.int64)
    for layer, k in place.items():
        fine = np.isfinite(value[k])
        sums[:, layer] = np.where(fine, value[k], 0.0)
        counts[:, layer] = np.where(fine, count, 0)
    return PerDocument.of_sums(units, sums, counts)


def _changes(
    effects: Effects, place: dict[int, int], units: tuple[str, ...], model: Model
) -> dict[str, PerDocument]:
    """Sums of the norms of changes and of clean writes, [unit, skipped layer, later layer]."""
    depth, rows = model.anatomy.n_layers, len(units)
    changed, clean = np.zeros((rows, depth, depth)), np.zeros((rows, depth, depth))
    counts = np.zeros(changed.shape, np.int64)
    for layer, k in place.items():
        changed[:, layer] = effects.changed[k].T.numpy()
        clean[:, layer] = effects.clean.T.numpy()
        counts[:, layer] = effects.positions.numpy()[:, None]
    broken = ~(np.isfinite(changed) & np.isfinite(clean))
    changed[broken], clean[broken], counts[broken] = 0.0, 0.0, 0
    return {
        "changed": PerDocument.of_sums(units, changed, counts),
        "clean": PerDocument.of_sums(units, clean, counts),
    }


def _output(total: Tally, name: str, floor: float, facts: Facts) -> Measurement:
    """One measurement over layer x sublayer; a sublayer that was not swept is missing."""
    shared = (
        f"sinks left out; effects below {floor:.2g} (3 x noise floor) shown as 0; n_items differs by sublayer"
    )
    parts = [_one(total.get(f"{name}[sublayer={s}]"), name, facts) for s in SUBLAYERS]
    missing = "the layer has no such sublayer, or it was not skipped in this run"
    if not facts.causal and name == "loss_increase":
        missing = "the model is no causal language model: there is no next token"
    stacked = {
        c: np.stack([getattr(p, c) for p in parts], -1) for c in ("value", "low", "high", "n", "n_items")
    }
    quiet = np.abs(stacked["value"]) < floor
    stacked["low"] = np.where(quiet, np.minimum(stacked["low"], 0.0), stacked["low"])
    stacked["high"] = np.where(quiet, np.maximum(stacked["high"], 0.0), stacked["high"])
    stacked["value"] = np.where(quiet, 0.0, stacked["value"])
    axes = {**layers(facts), "sublayer": np.asarray(SUBLAYERS)}
    gaps = missing if np.isnan(stacked["value"]).any() else ""
    return Measurement(name, axes, unit="nats", note=shared, missing=gaps, **stacked)


def _one(found: object, name: str, facts: Facts) -> Measurement:
    if isinstance(found, PerDocument) and (facts.causal or name != "loss_increase"):
        return mean(found, name, layers(facts), "nats", facts)
    nothing = np.full(facts.n_layers, np.nan)
    zero = np.zeros(facts.n_layers)
    return Measurement(
        name, layers(facts), nothing, "nats", nothing, nothing, zero, zero, missing="not swept"
    )


def _map(total: Tally, floor: np.ndarray, facts: Facts) -> Measurement:
    axes = {"layer": np.arange(facts.n_layers), "later_layer": np.arange(facts.n_layers)}
    note = "ratio of sums over positions that are no sinks; the diagonal is the skipped layer itself"
    found = ratio(
        part(total, "changed", PerDocument),
        part(total, "clean", PerDocument),
        "effect_on_later",
        axes,
        "1",
        facts,
        note,
    )
    earlier = axes["later_layer"][None, :] < axes["layer"][:, None]
    quiet = np.where(np.abs(found.value) < floor[None, :], 0.0, found.value)
    blank = {c: np.where(earlier, np.nan, getattr(found, c)) for c in ("low", "high")}
    reason = "earlier layers cannot be affected; a layer that was not skipped in this run has no row"
    return replace(found, value=np.where(earlier, np.nan, quiet), missing=reason, **blank)
