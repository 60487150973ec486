"""Search for layers to remove: at each step the layer whose removal costs the least loss, in a beam of several sets.

The search is greedy (SLEB, arXiv 2402.09025: again and again, remove the layer whose removal leaves the lowest loss).
Lazy: after the first step only the layers that ranked best in the step before are tried again. Sets share what they
begin with: removing the set S starts from the recorded state before min(S), and sets that share their first removals
part where they differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.engine.journal import Journal
from depthscope.engine.progress import Progress
from depthscope.engine.protect import protected, sink_ratios
from depthscope.engine.replayed import UNFOLLOWED, batches, increases, must_reorder, recorded
from depthscope.engine.tally import PerDocument
from depthscope.errors import BadInput, Refused
from depthscope.runtime.model import Model
from depthscope.runtime.orders import evaluations, separate_evaluations, without
from depthscope.runtime.run import Seen

TOKENS = 256
"""Token ids of one batch at most."""
BUDGET = 2**30
"""Bytes of recorded states that are kept between steps; beyond it each step records them anew."""


@dataclass(frozen=True)
class Level:
    """The best set of one size that was found, and what finding it took.

    Args:
        removed: the layers in the order in which they were removed.
        increase: rise of the loss over the intact model, nats, [unit]: `.sums / .counts`, intervals from units.
        tried: sets of this size that were evaluated. calls: blocks run for them; separate: blocks without sharing.
    """

    removed: tuple[int, ...]
    increase: PerDocument
    tried: int
    calls: int
    separate: int

    @property
    def loss_increase(self) -> float:
        """Mean rise of the loss in nats; infinite where the shortened model overflows."""
        return float(self.increase.sums.sum() / count) if (count := self.increase.counts.sum()) else np.inf


@dataclass(frozen=True)
class Removals:
    """The best set of each size from 1 on. With a beam a larger set need not hold the smaller one.

    Args:
        kept_back: protected layers with the reason.
    """

    levels: tuple[Level, ...]
    kept_back: Mapping[int, str]

    def removed(self, size: int) -> tuple[int, ...]:
        """The best set of some size, in the order of removal."""
        return self.levels[size - 1].removed


def removal_order(
    model: Model,
    windows: Sequence[Sequence[int]],
    remove: int,
    *,
    units: Sequence[str] = (),
    protect: Collection[int] | None = None,
    also: Collection[int] = (),
    lazy: int = 5,
    beam: int = 3,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Removals:
    """Greedy search for the layers whose removal costs the least loss on some text, one more at each step.

    `removal_order(model, [w.ids for w in text.items], 6).removed(6)` is the set of six that was found. First and last
    layer and those that make or take away a sink are never tried.

    Args:
        model: runs in float32 whatever its type. windows: token ids, at least 2 each.
        units: the independent unit of each window, for intervals; windows themselves where empty.
        remove: the largest set that is looked for.
        protect: layers never tried; None finds them (first, last, sinks), a collection is taken as it is.
        also: layers never tried besides those that are found.
        lazy: layers tried in each step after the first, the best of the step before; 0 tries all.
        beam: sets that are kept at each step.
        journal: remembers finished steps. progress: called with ("removal", step, remove).

    Raises:
        Refused: where the model's layers may not be left out, or it has no next token.
        BadInput: where more layers are asked for than are free, or a parameter is out of range.
    """
    _check(model, windows, remove, lazy, beam)
    text = _Text(model.precise, [list(map(int, w)) for w in windows], list(units))
    kept = dict.fromkeys(protect, "asked for") if protect is not None else text.protected(journal, also)
    free = [layer for layer in range(model.anatomy.n_layers) if layer not in kept]
    if remove > len(free):
        raise BadInput(
            f"{remove} layers are to go, {len(free)} of {model.anatomy.n_layers} are free; protected: {_said(kept)}"
        )
    states, levels = [_State((), tuple(free))], list[Level]()
    for size in range(1, remove + 1):
        level, states = _step(text, states, lazy if size > 1 else 0, beam, journal)
        levels.append(level)
        if progress:
            progress("removal", size, remove)
    return Removals(tuple(levels), kept)


def _check(model: Model, windows: Sequence[Sequence[int]], remove: int, lazy: int, beam: int) -> None:
    try:
        must_reorder(model.anatomy, UNFOLLOWED)
    except Refused as reason:
        raise Refused(f"layers of {model.name} cannot be removed one by one: {reason}") from None
    if remove < 1 or lazy < 0 or beam < 1:
        raise BadInput(f"remove={remove}, lazy={lazy}, beam={beam}; 1, 0 and 1 are the least")
    if not windows or min(map(len, windows)) < 2:
        raise BadInput(f"a loss needs windows of at least 2 tokens, got {sorted(map(len, windows))[:3]}")


@dataclass(frozen=True)
class _State:
    """A set in the beam: what was removed, and the other free layers, those that cost least first."""

    removed: tuple[int, ...]
    ranking: tuple[int, ...]


def _step(
    text: _Text, states: Sequence[_State], lazy: int, beam: int, journal: Journal | None
) -> tuple[Level, list[_State]]:
    """The best sets that are one layer larger."""
    tried: dict[frozenset[int], tuple[_State, int]] = {}
    for state in states:
        for layer in state.ranking[: lazy or None]:
            tried.setdefault(frozenset((*state.removed, layer)), (state, layer))
    sets = [tuple(sorted(s)) for s in tried]
    found = text.losses(sets, journal)
    level = [found.increase(k) for k in range(len(sets))]
    cost = {s: _mean(each) for s, each in zip(tried, level, strict=True)}
    best = sorted(tried, key=lambda s: (cost[s], sorted(s)))[:beam]
    place = list(tried).index(best[0])
    winner = Level(_grown(*tried[best[0]]), level[place], len(sets), found.calls, found.separate)
    return winner, [_State(_grown(*tried[s]), _ranked(*tried[s], cost)) for s in best]


def _grown(state: _State, layer: int) -> tuple[int, ...]:
    return (*state.removed, layer)


def _ranked(state: _State, layer: int, cost: Mapping[frozenset[int], float]) -> tuple[int, ...]:
    """The layers left: those just tried beside this one by what they cost, then the others as they stood."""
    costs = {k: cost.get(frozenset((*state.removed, k))) for k in state.ranking if k != layer}
    known = sorted((k for k, c in costs.items() if c is not None), key=lambda k: (costs[k] or 0.0, k))
    return (*known, *(k for k, c in costs.items() if c is None))


@dataclass(frozen=True)
class _Losses:
    """Rises of the loss of several sets over the same units."""

    units: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray
    calls: int
    separate: int

    def increase(self, place: int) -> PerDocument:
        return PerDocument(self.units, self.sums[:, place], self.counts[:, place])


class _Text:
    """The windows in batches of equal length, and their recorded passes."""

    def __init__(self, model: Model, windows: list[list[int]], units: list[str]) -> None:
        self.model = model
        names = units or [f"window {k:06d}" for k in range(len(windows))]
        self.batches = list(batches(windows, names, TOKENS))
        anatomy = model.anatomy
        size = sum(map(len, windows)) * (anatomy.n_layers + 1) * anatomy.d_model * model.dtype.itemsize
        self.digest = hashlib.sha256(json.dumps([windows, names]).encode()).hexdigest()[:16]
        self.fits = size <= BUDGET
        self.kept: list[Seen] = []

    def passes(self) -> Iterable[Seen]:
        """A recorded pass of every batch, kept between calls where they fit."""
        for place, batch in enumerate(self.batches):
            if place < len(self.kept):
                yield self.kept[place]
                continue
            seen = recorded(self.model, batch)
            if self.fits:
                self.kept.append(seen)
            yield seen

    def protected(self, journal: Journal | None, also: Collection[int]) -> dict[int, str]:
        """First and last layer, those that make or take away a sink, and those that are asked for."""

        def ratios() -> list[float]:
            return (
                np.concatenate([sink_ratios(s).double().cpu().numpy() for s in self.passes()], 1)
                .mean(1)
                .tolist()
            )

        return protected(np.asarray(_remembered(journal, "sinks", {"text": self.digest}, ratios)), asked=also)

    def losses(self, sets: Sequence[tuple[int, ...]], journal: Journal | None) -> _Losses:
        """The rise of the loss of each set, [unit set]."""
        depth = self.model.anatomy.n_layers
        orders = [without(depth, s) for s in sets]

        def measured() -> dict[str, Any]:
            total = increases(self.passes(), orders)
            return {"units": total.units, "sums": total.sums.tolist(), "counts": total.counts.tolist()}

        about = {"text": self.digest, "sets": [list(s) for s in sets]}
        found = _remembered(journal, "removal", about, measured)
        sums, counts = np.asarray(found["sums"], np.float64), np.asarray(found["counts"], np.int64)
        return _Losses(tuple(found["units"]), sums, counts, evaluations(orders), separate_evaluations(orders))


def _remembered(journal: Journal | None, name: str, about: dict[str, Any], compute: Callable[[], Any]) -> Any:  # noqa: ANN401
    return compute() if journal is None else journal.step(name, about, compute)


def _mean(increase: PerDocument) -> float:
    count = increase.counts.sum()
    return float(increase.sums.sum() / count) if count else np.inf


def _said(kept: Mapping[int, str]) -> str:
    return ", ".join(f"{layer} ({reason})" for layer, reason in kept.items()) or "none"
