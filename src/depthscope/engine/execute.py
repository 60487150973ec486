"""One shard: run it once, let every analysis take its share, count what was not finite. All succeed or none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from depthscope.engine.needs import Analysis, Needs
from depthscope.engine.shard import STATES, Shard
from depthscope.engine.tally import Tally
from depthscope.engine.view import View, queries_of
from depthscope.materials.window import Windows
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

if TYPE_CHECKING:
    from depthscope.results.result import Result


@dataclass(frozen=True)
class Job:
    """Everything a worker needs besides the model and the shard.

    Args:
        needs: each analysis's own needs; they are united for the run and tell who observes what.
        lenses: through which states are decoded; the first is the run's.
    """

    analyses: Mapping[str, Analysis]
    needs: Mapping[str, Needs]
    union: Needs
    windows: Windows
    units: tuple[str, ...]
    given: Mapping[str, Result]
    seed: int
    lenses: tuple[Lens, ...] = (LOGIT,)


@dataclass(frozen=True)
class Outcome:
    """What came back of one shard: a tally for each analysis, and how the shard fared.

    Args:
        non_finite: window -> positions with NaN or infinite states; these windows are in no tally.
    """

    shard: str
    tallies: Mapping[str, Tally]
    tokens: int
    non_finite: Mapping[int, int]
    seconds: float
    halved: bool


def execute(model: Model, job: Job, shard: Shard) -> Outcome:
    """Run one shard; when memory runs out the batch is halved and the outcome marked.

    Raises:
        MemoryError: when even a single row does not fit.
    """
    begun, found = time.perf_counter(), None
    try:
        found = _observe(model, job, shard)
    except (torch.OutOfMemoryError, MemoryError):
        if len(shard.windows) == 1:
            raise
    halved = found is None
    # Not inside the except clause: the error's frames would keep the very tensors that did not fit.
    tallies, bad = _halves(model, job, shard) if found is None else found
    tokens = shard.tokens
    return Outcome(shard.name, tallies, tokens, bad, time.perf_counter() - begun, halved)


Observed = tuple[Mapping[str, Tally], Mapping[int, int]]
"""Tallies, and window -> positions that were not finite."""


def _halves(model: Model, job: Job, shard: Shard) -> Observed:
    middle, end = len(shard.windows) // 2, len(shard.windows)
    first, second = (execute(model, job, _only(shard, rows)) for rows in (range(middle), range(middle, end)))
    tallies = {name: first.tallies[name].add(second.tallies[name]) for name in first.tallies}
    return tallies, {**first.non_finite, **second.non_finite}


def _only(shard: Shard, rows: Sequence[int]) -> Shard:
    """The shard restricted to some rows."""
    place = {row: k for k, row in enumerate(rows)}
    pairs = tuple((place[row], p) for row, p in shard.positions if row in place)
    return replace(shard, windows=tuple(shard.windows[r] for r in rows), positions=pairs)


def batch_of(job: Job, shard: Shard) -> Batch:
    """The shard's token ids; `documents` of the batch are the rows' independent units."""
    ids = [job.windows.items[w].ids[: shard.length] for w in shard.windows]
    return replace(Batch.of_ids(ids, [job.units[w] for w in shard.windows]), windows=shard.windows)


def _observe(model: Model, job: Job, shard: Shard) -> Observed:
    """What each analysis makes of one pass. A window with a state that is not finite is left out for all of them."""
    observing = [n for n in job.analyses if shard.serves(job.needs[n])]
    view = look(model, job, shard)
    bad = _not_finite(view)
    if bad:
        fine = [row for row, window in enumerate(shard.windows) if window not in bad]
        empty = {name: Tally({}) for name in observing}
        tallies, more = _observe(model, job, _only(shard, fine)) if fine else (empty, {})
        return tallies, {**bad, **more}
    return {
        n: job.analyses[n].observe(view.seen.model, view.seen.batch, view, job.given) for n in observing
    }, bad


def look(model: Model, job: Job, shard: Shard) -> View:
    """The pass of one shard: a capture reads the union of sites; a sweep reads states and records calls, in float32.

    Of every state the norms are taken; the states themselves are held only where something reads them.
    """
    batch = batch_of(job, shard)
    windows, union = tuple(job.windows.items[w] for w in shard.windows), job.union
    if shard.sweep is not None:
        seen = run(model.precise, batch, read=sorted(STATES), norms=STATES, record=True)
    else:
        asked = None
        if union.every_query or union.own_queries:
            asked = queries_of(union, windows, batch.length)
        sites = sorted(union.sites | STATES if union.decode else union.sites)
        seen = run(model, batch, read=sites, norms=STATES, queries=asked, values=union.values)
    return View(seen, job.union, shard, job.seed, windows, job.lenses, job.windows)


def _not_finite(view: View) -> dict[int, int]:
    """Window -> positions with a state that is not finite, of the windows that have any."""
    broken = (~torch.isfinite(view.norms).all(0) & view.seen.batch.mask).sum(-1).tolist()
    return {window: count for window, count in zip(view.shard.windows, broken, strict=True) if count}
