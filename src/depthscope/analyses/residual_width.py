"""Residual width: how many directions of the stream are in use, and how many the loss needs.

Question: Over how many directions do the states spread, do layers write into free ones, and how many principal
directions of a state does the rest of the model need?

Method: States at plain positions (sinks left out) of windows of their own, each divided by its root mean square,
give a covariance for each of some states: participation_ratio = (sum l)^2 / sum l^2, entropy_rank = exp(H(l)),
stable_rank = sum l / max l, k90 and k99 = the fewest directions that hold 90 % and 99 % of the variance.
intrinsic_dimension is TwoNN. new_direction_share is the share of the energy of the next layer's write outside the
k90 directions of the state it reads; new_direction_chance = 1 - k90 / d is what directions at random would give.
Then, on other windows and in float32, a state is replaced by its mean and its first k principal directions at all
plain positions and the model goes on: loss_increase and output_kl. causal_width is the smallest k from which on the
loss rises by `allowed` nats at most. width_share divides each by d. late_minus_middle compares causal_width / d of
the last third of the states with the middle third, within the same draws of units.

How to read: causal_width is the number to look at: near d the width is in use, far below there is slack. The
spectra only describe. A new_direction_share above its chance means that the layer writes into free directions.

What misleads: The causal width of a state says what this trained model needs, not whether a wider one would be
better: that is a correlation at best. Fewer positions than ten times d understate every rank: isotropic_limit is
the participation ratio that isotropic data of that number would show. k is measured on a grid. One massive token
makes every rank 1, so sinks are left out and never projected. Directions are those of this text.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898), discussion, for the question; Facco et al. 2017 for TwoNN;
the causal width is this project's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.anatomy.site import Site
from depthscope.engine.curves import for_good
from depthscope.engine.directions import Directions, directions
from depthscope.engine.measured import DRAWS, mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View, edited_positions
from depthscope.engine.width_findings import described, floor, notes, shares
from depthscope.errors import Refused
from depthscope.measures.statistics import Interval, bootstrap_curve
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.replay import replay
from depthscope.runtime.sweep import next_ids

GRID = 16
TOGETHER = 4096
"""Positions of one replay."""
NO_TARGETS = "the model is no causal language model: there is no next token to compare with"


@dataclass(frozen=True)
class ResidualWidth:
    """Spectra of states, and how many principal directions the loss needs.

    Args:
        states: how many states are looked at, spread evenly from 0 to L.
        fit: positions that the directions are fitted on, best ten times the width.
        tokens, documents: positions and windows that are replayed.
        sixteenths: numbers of directions that are kept, in sixteenths of the width; 16 is always among them.
        allowed: rise of the loss, in nats, that a state may cost when it is narrowed.
    """

    states: int = 11
    fit: int = 8192
    tokens: int = 512
    documents: int = 8
    sixteenths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12, 14)
    allowed: float = 0.05

    def __post_init__(self) -> None:
        check_ranges(
            self,
            states=at_least(2),
            fit=at_least(1, what="positions"),
            sixteenths=at_least(1, most=GRID),
            allowed=above(0, what="rise of the loss"),
        )

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded windows; directions are fitted as the first of them is observed."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so what a narrowed stream costs cannot be measured")
        grid = len(self.kept(anatomy.d_model)) * len(self.places(anatomy.n_layers)) // 2
        return Needs(sweeps=frozenset({SweepNeed((), (), self.tokens, self.documents, replays=grid)}))

    def places(self, n_layers: int) -> tuple[int, ...]:
        """The states that are looked at."""
        count = min(self.states, n_layers + 1)
        return tuple(sorted({round(float(s)) for s in np.linspace(0, n_layers, count)}))

    def kept(self, d_model: int) -> tuple[int, ...]:
        """Numbers of directions that are kept, ascending; the last is all of them."""
        return tuple(sorted({max(1, round(d_model * k / GRID)) for k in (*self.sixteenths, GRID)}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Costs of narrowed states at the plain positions of some windows, and once what the fit says."""
        del batch, given
        places, kept = self.places(model.anatomy.n_layers), self.kept(model.anatomy.d_model)
        fitted = directions(seen, places, self.fit)
        index = seen.plain.nonzero()
        targets, has_target = next_ids(seen.seen, index)
        has_target = has_target & model.anatomy.family.causal
        loss, kl = (np.full((len(index), len(places), len(kept)), np.nan) for _ in range(2))
        for place, state in enumerate(places):
            ends = _ends(seen, state, _narrowed(seen, state, fitted, place, kept), index)
            final = seen.each_state[-1][index[:, 0], index[:, 1]]
            found = seen.seen.model.head.decode(
                torch.cat([final[None], ends]), final, Decode(kl=True, target=True), targets
            )
            assert found.kl is not None
            assert found.cross_entropy is not None
            rise = torch.where(has_target, found.cross_entropy[1:] - found.cross_entropy[:1], torch.nan)
            loss[:, place], kl[:, place] = rise.T.double().cpu(), found.kl[1:].T.double().cpu()
        units = [seen.units[row] for row in index[:, 0].tolist()]
        return Tally({
            "loss": PerDocument.of(units, loss), "kl": PerDocument.of(units, kl), "fit": _stored(fitted),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Spectra by state, costs by state and k, and the width that the loss needs."""
        places, kept = self.places(facts.n_layers), self.kept(facts.d_model)
        axes = {"state": np.asarray(places), "k": np.asarray(kept)}
        loss, fit = part(total, "loss", PerDocument), part(total, "fit", Rows).columns
        missing = "" if facts.causal else NO_TARGETS
        note = f"first k principal directions of {facts.d_model}; mean kept, sinks untouched"
        width = self._width(loss, places, kept, facts)
        found = [
            *described(fit, places, facts),
            mean(loss, "loss_increase", axes, "nats", facts, note, missing),
            mean(part(total, "kl", PerDocument), "output_kl", axes, "nats", facts, note),
            width,
            self._late(loss, places, kept, facts),
        ]
        named = {m.name: m for m in found}
        named["width_share"] = shares(named, facts.d_model)
        named["noise_floor"] = floor(named["output_kl"])
        return Findings(named, notes=notes(fit, facts.d_model))

    def _width(
        self, loss: PerDocument, places: tuple[int, ...], kept: tuple[int, ...], facts: Facts
    ) -> Measurement:
        """The smallest k of the grid from which on the loss rises by what is allowed at most."""
        found = self._resampled(loss, kept, facts, np.asarray)
        note = f"of {facts.d_model}; loss rises by {self.allowed:g} nats at most; grid of k: {kept}"
        axes = {"state": np.asarray(places)}
        gone = NO_TARGETS if not facts.causal else ""
        counts = ((loss.counts > 0).sum(0)[:, 0], loss.counts.sum(0)[:, 0])
        return Measurement("causal_width", axes, found.value, "1", found.low, found.high, *counts, note, gone)

    def _late(
        self, loss: PerDocument, places: tuple[int, ...], kept: tuple[int, ...], facts: Facts
    ) -> Measurement:
        """Mean causal_width / d of the states in the last third of the depth minus that of the middle third."""
        depth = np.asarray(places) / facts.n_layers
        middle, late = (depth >= 1 / 3) & (depth < 2 / 3), (depth >= 2 / 3) & (depth < 1)
        note = "share of the width; last third of the states, the final one left out, minus the middle third"
        if not (middle.any() and late.any() and facts.causal):
            gone = NO_TARGETS if not facts.causal else "too few states to compare thirds"
            nothing = np.asarray(np.nan)
            return Measurement("late_minus_middle", {}, nothing, "1", note=note, missing=gone)

        def compared(widths: np.ndarray) -> np.ndarray:
            return (widths[:, late].mean(1) - widths[:, middle].mean(1)) / facts.d_model

        found = self._resampled(loss, kept, facts, compared)
        n, items = np.asarray(len(loss.units)), np.asarray(loss.counts.sum(0)[0, 0])
        return Measurement("late_minus_middle", {}, found.value, "1", found.low, found.high, n, items, note)

    def _resampled(
        self,
        loss: PerDocument,
        kept: tuple[int, ...],
        facts: Facts,
        then: Callable[[np.ndarray], np.ndarray],
    ) -> Interval:
        """What `then` makes of widths [draw, state], with an interval over units that holds the value."""
        grid = np.asarray([*kept, np.nan])

        def widths(curves: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                reached = for_good(curves <= self.allowed).astype(int)
            return then(grid[reached])

        return bootstrap_curve(loss.sums, loss.counts, widths, DRAWS, facts.seed).holding()


def _narrowed(seen: View, state: int, fitted: Directions, place: int, kept: tuple[int, ...]) -> list[Tensor]:
    """The state with only its first k directions at edited positions, one [row token d] a k."""
    assert seen.sweep is not None
    stream = seen.each_state[state]
    rms = stream.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)
    middle, axes = fitted.mean[place].to(stream), fitted.vectors[place].to(stream)
    scores = (stream / rms - middle) @ axes
    at = edited_positions(seen, seen.sweep)[..., None]
    return [torch.where(at, (scores[..., :k] @ axes[:, :k].T + middle) * rms, stream) for k in kept]


def _ends(seen: View, state: int, streams: list[Tensor], index: Tensor) -> Tensor:
    """Final states at measured positions after each stream has taken the state's place, [k item d]."""
    rows, length = seen.each_state[0].shape[:2]
    step = max(1, TOGETHER // (rows * length))
    found = []
    for start in range(0, len(streams), step):
        some = streams[start : start + step]
        last = torch.cat(some)
        if state < len(seen.each_state) - 1:
            last = replay(seen.seen, state, last)[Site(len(seen.each_state) - 2, "resid_post")]
        found += [each[index[:, 0], index[:, 1]] for each in last.split(rows)]
    return torch.stack(found)


def _stored(fitted: Directions) -> Rows:
    """What the fit says, as one row: every shard says the same, and one is kept."""
    columns = {
        "ranks": fitted.ranks, "neighbours": fitted.neighbours, "fresh": fitted.fresh,
        "counts": np.asarray([fitted.tokens, fitted.units, fitted.apart], np.int64),
    }  # fmt: skip
    return Rows(np.zeros(1, np.uint64), {name: values[None] for name, values in columns.items()}, 1)
