"""Pruning criteria: every usual score of how dispensable a layer is, side by side.

Question: Which layers would each criterion remove first, and do the criteria agree?

Method: A clean pass gives influence, 1 - cosine of a layer's input and output, averaged over positions;
sublayer_influence, the same for what the mixer or the MLP adds; and angular, the angle between states n layers
apart as a share of a half turn, for every stretch of n layers (kept = L - n layers are left). A float32 sweep gives
loss_increase, the rise of the loss when one layer is skipped at every position, and future_shift, how far the
output distributions of later tokens move when it is skipped before them, sinks protected. One backward pass gives
taylor, the sum of |weight x gradient| over the layer's weights. Position 0 and massive positions are left out of
averages with mode=robust; mode=paper counts all positions, and for angular only the last one of each window. rank
orders layers by each criterion, 1 is removed first; deepest takes the last layer but one, then the one before it,
and so on. rank_correlation is Spearman's, over all layers and over those that may go. sink_write is a layer's
largest write at a sink in units of the median stream; layers above 10, the first and the last are protected.

How to read: A criterion is a guess before the fact; loss_increase is the fact for one layer, and pruning_damage for
several. Where rank_correlation with loss is high, the cheap criterion would do. A layer of low influence with a
large sink_write is the trap: it hardly turns the stream anywhere but at the sink, and cannot go.

What misleads: Influence and angles say how far the stream turns, not what is read from it. Losses of single layers
do not add up. taylor comes from few tokens and favours layers of small weights. No interval of a rank is given:
neighbouring ranks are often ties in all but name. Losses on text do not tell which layers arithmetic needs.

Source: Men et al. 2024, ShortGPT (arXiv 2403.03853); Gromov et al. 2024 (arXiv 2403.17887); Kim et al. 2024,
Shortened LLaMA (arXiv 2402.02834); He et al. 2024 (arXiv 2406.15786); Csordas et al. 2025 (arXiv 2505.13898) for
effects on future tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.criteria import CRITERIA, correlations, ranks
from depthscope.engine.measured import Axes, layers, mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.protect import protected, sink_ratios
from depthscope.engine.replayed import must_reorder
from depthscope.engine.tally import PerDocument, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.measures.pruning import angular_distance, influence
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.salience import block_saliences

MODES = ("robust", "paper")
SUBLAYERS = ("attention", "mlp")


@dataclass(frozen=True)
class PruningCriteria:
    """Scores of layers.

    Args:
        mode: "robust", or "paper" for averages as the papers take them.
        longest: the longest stretch of `angular`; 0 for a third of the layers.
        tokens: positions of the sweep of losses. future_tokens: of the sweep of future effects, in as many windows.
        documents: windows of a sweep. future: splits a window. gradient_tokens: positions of the backward pass.
        protect: further layers that stay.
    """

    mode: str = "robust"
    longest: int = 0
    tokens: int = 1024
    future_tokens: int = 512
    documents: int = 8
    future: int = 2
    gradient_tokens: int = 256
    protect: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_names(self, mode=MODES)
        check_ranges(self, longest=at_least(0), future=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """States and writes of a clean pass, two sweeps of whole layers, and recorded windows for the backward pass."""
        must_reorder(anatomy, "it has no unembedding, so the loss of a removal cannot be measured")
        if self.longest >= anatomy.n_layers:
            raise Refused(f"a stretch of {self.longest} layers is all of its {anatomy.n_layers}")
        protected(np.zeros(anatomy.n_layers), asked=self.protect)
        writes = () if anatomy.family.post_norm else anatomy.write_parts()
        return Needs(
            frozenset({"L0.resid_pre", "L*.resid_post", *(f"L*.{p}" for p in writes)}),
            sweeps=frozenset(self._sweeps()),
        )

    def _sweeps(self) -> tuple[SweepNeed, SweepNeed, SweepNeed]:
        """What losses, future effects and gradients are taken from."""
        return (
            SweepNeed(("block",), (), self.tokens, self.documents, "none"),
            SweepNeed(("block",), (), self.future_tokens, self.documents, "sinks", future=self.future),
            SweepNeed((), (), self.gradient_tokens, self.documents, replays=2),
        )

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Sums over positions of a clean pass; sums of a sweep's effects; or the gradients of one batch."""
        del given
        if seen.sweep is None:
            return self._clean(model, batch, seen)
        loss, future, _ = self._sweeps()
        if seen.sweep == loss:
            effects = seen.effects
            return Tally({"loss_increase": _per_layer(seen, effects.loss_increase, effects.targets)})
        if seen.sweep == future:
            effects = seen.effects
            return Tally({"future_shift": _per_layer(seen, effects.future_shift, effects.future_positions)})
        total = block_saliences(seen.seen).numpy()
        return Tally({"taylor": Sum(total, np.ones(len(total), np.int64))})

    def _clean(self, model: Model, batch: Batch, seen: View) -> Tally:
        states, counted = seen.states, seen.plain if self.mode == "robust" else batch.mask
        turned = influence(states[:-1], states[1:])
        sinks = sink_ratios(seen.seen).double().T.cpu().numpy()
        return Tally({
            "influence": _averaged(turned, counted, seen.units),
            "sublayer_influence": _averaged(_sublayers(model.anatomy, seen), counted, seen.units),
            "angular": self._angular(seen, counted),
            "sink_write": PerDocument.of(seen.units, sinks),
        })  # fmt: skip

    def _angular(self, seen: View, counted: Tensor) -> PerDocument:
        """Angles of every stretch, [unit, length - 1, first layer]."""
        states, depth = seen.states, len(seen.states) - 1
        at = counted if self.mode == "robust" else _last(counted)
        angles = torch.full((_longest(self.longest, depth), depth, *at.shape), torch.nan, dtype=states.dtype)
        for n in range(1, len(angles) + 1):
            angles[n - 1, : depth - n + 1] = angular_distance(states[:-n], states[n:]).cpu()
        return _averaged(angles, at, seen.units)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """All scores, their ranks, how the ranks agree, and which layers are protected, with reasons."""
        found = _scores(total, facts, self.mode)
        kept = protected(found["sink_write"].value, asked=self.protect)
        stays = np.array([k in kept for k in range(facts.n_layers)])
        order = ranks({name: found[name].value for name in ("influence", "loss_increase", "future_shift", "taylor")},
                      found["sublayer_influence"].value)  # fmt: skip
        axes: Axes = {"criterion": np.array(CRITERIA), **layers(facts)}
        gaps = "the layer has no such sublayer, or its score is not finite"
        missing = gaps if np.isnan(order).any() else ""
        more = [
            *_stretches(part(total, "angular", PerDocument), facts),
            Measurement(
                "protected",
                layers(facts),
                stays.astype(float),
                "1",
                note="1 where the layer is never removed",
            ),
            Measurement("rank", axes, order, "1", note="1 is removed first", missing=missing),
            _agreement(order, stays),
        ]
        words = ", ".join(f"layer {k} ({reason})" for k, reason in kept.items())
        return Findings({**found, **{m.name: m for m in more}}, notes=(f"Protected: {words}.",))


def _longest(asked: int, n_layers: int) -> int:
    return asked or max(1, n_layers // 3)


def _last(counted: Tensor) -> Tensor:
    """True at the last counted position of each row only."""
    place = (counted * torch.arange(1, counted.shape[1] + 1, device=counted.device)).argmax(-1)
    return counted & (torch.arange(counted.shape[1], device=counted.device) == place[:, None])


def _sublayers(anatomy: Anatomy, seen: View) -> Tensor:
    """How far writes of mixer and MLP turn what they are added to, [layer, sublayer, row, token]; NaN where none."""
    states = seen.states
    found = torch.full(
        (anatomy.n_layers, 2, *states.shape[1:3]), torch.nan, dtype=states.dtype, device=states.device
    )
    if anatomy.family.post_norm:
        return found
    for layer in anatomy.layers:
        before = states[layer.index]
        mixed = [seen[f"L{layer.index}.{name}"].to(states.dtype) for name, _ in layer.mixers()]
        middle = before + sum(mixed) if mixed else before
        if mixed:
            found[layer.index, 0] = influence(before, middle)
        if layer.mlp:
            stream = before if anatomy.parallel else middle
            found[layer.index, 1] = influence(
                stream, stream + seen[f"L{layer.index}.mlp_out"].to(states.dtype)
            )
    return found


def _averaged(values: Tensor, counted: Tensor, units: tuple[str, ...]) -> PerDocument:
    """Values [*cells, row, token] at counted positions as sums and counts [unit, *cells]."""
    rows = np.moveaxis(values.double().cpu().numpy(), -2, 0)
    fine = np.isfinite(rows) & counted.cpu().numpy().reshape(len(rows), *[1] * (rows.ndim - 2), -1)
    return PerDocument.of_sums(units, np.where(fine, rows, 0.0).sum(-1), fine.sum(-1))


def _per_layer(seen: View, sums: Tensor, counts: Tensor) -> PerDocument:
    """Effects [layer, row] of a sweep of all blocks as sums and counts [unit, layer], without what is not finite."""
    value = sums.double().T.cpu().numpy()
    fine = np.isfinite(value)
    number = np.where(fine, counts.cpu().numpy()[:, None], 0)
    return PerDocument.of_sums(seen.units, np.where(fine, value, 0.0), number)


def _scores(total: Tally, facts: Facts, mode: str) -> dict[str, Measurement]:
    where = "sinks left out" if mode == "robust" else "all positions"
    axes, sub = layers(facts), {**layers(facts), "sublayer": np.array(SUBLAYERS)}
    one = part(total, "sublayer_influence", PerDocument)
    gaps = (
        "the layer has no such sublayer, or its blocks have no additive writes"
        if (one.counts.sum(0) == 0).any()
        else ""
    )
    taylor = part(total, "taylor", Sum)
    said = f"sum over {int(taylor.count.max())} backward passes divided by their number; no interval"
    found = [
        mean(part(total, "influence", PerDocument), "influence", axes, "1", facts, where),
        mean(one, "sublayer_influence", sub, "1", facts, where, gaps),
        mean(part(total, "loss_increase", PerDocument), "loss_increase", axes, "nats", facts,
             "skipped at every position; sinks are not measured"),
        mean(part(total, "future_shift", PerDocument), "future_shift", axes, "1", facts,
             "mean distance of the output distributions of later tokens, 0 to sqrt 2; sinks protected"),
        Measurement("taylor", axes, taylor.total / taylor.count, "nats", note=said),
        mean(part(total, "sink_write", PerDocument), "sink_write", axes, "1", facts, "mean over windows"),
    ]  # fmt: skip
    return {m.name: m for m in found}


def _stretches(found: PerDocument, facts: Facts) -> list[Measurement]:
    """Angles of every stretch by what it leaves, and where the flattest stretch of each length begins."""
    lengths = np.arange(1, found.sums.shape[1] + 1)
    axes: Axes = {"kept": facts.n_layers - lengths, **layers(facts)}
    angles = mean(
        found, "angular", axes, "1", facts, "by first layer of the stretch", "the stretch would pass the end"
    )
    start = np.nanargmin(angles.value, axis=1).astype(float)
    return [
        angles,
        Measurement("angular_start", {"kept": axes["kept"]}, start, "1", note="first layer of the stretch"),
    ]


def _agreement(order: np.ndarray, stays: np.ndarray) -> Measurement:
    axes: Axes = {
        "mode": np.array(["all", "free"]),
        "criterion": np.array(CRITERIA),
        "other": np.array(CRITERIA),
    }
    value = np.stack([correlations(order), correlations(order[:, ~stays])])
    note = f"Spearman over {len(stays)} layers (all) and {int((~stays).sum())} that are not protected (free)"
    gaps = "fewer than 3 layers, or ranks that are all missing" if np.isnan(value).any() else ""
    return Measurement("rank_correlation", axes, value, "1", note=note, missing=gaps)
