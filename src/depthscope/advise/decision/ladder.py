"""The rungs of the pruning ladder: for each number of layers, the set whose removal costs the least loss on a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.advise.candidates import Candidate, Criteria, criteria, increases, proposed
from depthscope.advise.decision.subjects import Subject
from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.engine.removal import removal_order
from depthscope.engine.source import Source
from depthscope.errors import Refused
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class Rungs:
    """The sets of layers to try, mildest first, or why there are none; kept_back: protected layers with the reason."""

    sets: tuple[tuple[int, ...], ...]
    kept_back: dict[str, str]
    refused: str = ""


def sizes(ladder: Sequence[float], layers: int) -> tuple[int, ...]:
    """Numbers of layers for shares in percent, at least one and at most all but two, each once."""
    return tuple(sorted({min(max(1, round(share * layers / 100)), max(1, layers - 2)) for share in ladder}))


def rungs(base: Subject, reading: Reading, wanted: Sequence[int], journal: Journal, text: str) -> Rungs:
    """Propose by every criterion, rank by the rise of the loss, keep the best of each size; remembered as one step."""
    key = {
        **base.stamp,
        "text": text,
        "tokens": reading.tokens,
        "window": reading.window,
        "sizes": list(wanted),
    }
    found = journal.step("rungs", key, lambda: _found(base.model, reading, wanted, journal, key))
    return Rungs(tuple(tuple(s) for s in found["sets"]), found["kept_back"], found["refused"])


def _found(
    model: Model, reading: Reading, wanted: Sequence[int], journal: Journal, key: dict[str, Any]
) -> dict[str, Any]:
    source = Source.of("text", reading.windows(model))
    windows, units = [list(w.ids) for w in source.windows.items], list(source.units)
    try:
        scored = Criteria.of(
            journal.step("criteria", key, lambda: criteria(model, windows, units, max(wanted), ()).as_dict())
        )
    except Refused as reason:
        return {"sets": [], "kept_back": {}, "refused": str(reason)}
    kept_back = {str(k): reason for k, reason in scored.kept_back.items()}
    fitting = [n for n in wanted if n <= model.anatomy.n_layers - len(kept_back)]
    try:
        candidates = _candidates(model, windows, units, scored, fitting)
    except Refused as reason:
        return {"sets": [], "kept_back": kept_back, "refused": str(reason)}
    if not candidates:
        return {"sets": [], "kept_back": kept_back, "refused": ""}
    rise = increases(model, windows, units, [c.removed for c in candidates])
    loss = rise.sums.sum(0) / np.maximum(rise.counts.sum(0), 1)
    loss = np.where(rise.counts.sum(0) > 0, loss, np.inf)
    best = [
        min((k for k, c in enumerate(candidates) if len(c.removed) == n), key=lambda k: loss[k])
        for n in fitting
    ]
    return {"sets": [list(candidates[k].removed) for k in best], "kept_back": kept_back, "refused": ""}


def _candidates(
    model: Model,
    windows: Sequence[Sequence[int]],
    units: Sequence[str],
    scored: Criteria,
    wanted: Sequence[int],
) -> list[Candidate]:
    if not wanted:
        return []
    order = removal_order(model, windows, max(wanted), units=units, protect=scored.kept_back)
    greedy = [level.removed for level in order.levels]
    return [one for size in wanted for one in proposed(model, scored, greedy, size)]
