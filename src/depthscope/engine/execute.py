"""One shard: run it once, let every analysis take its share, count what was not finite. All analyses succeed or none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from depthscope.engine.needs import Analysis, Needs
from depthscope.engine.shard import Shard
from depthscope.engine.tally import Tally
from depthscope.engine.view import View, queries
from depthscope.errors import NonFinite
from depthscope.materials.text import Windows
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

if TYPE_CHECKING:
    from depthscope.results.result import Result


@dataclass(frozen=True)
class Job:
    """Everything a worker needs besides the model and the shard.

    Args:
        needs: each analysis's own needs; they are united for the run and tell who observes what.
    """

    analyses: Mapping[str, Analysis]
    needs: Mapping[str, Needs]
    union: Needs
    windows: Windows
    units: tuple[str, ...]
    given: Mapping[str, Result]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came back of one shard: a tally for each analysis, and how the shard fared."""

    shard: str
    tallies: Mapping[str, Tally]
    tokens: int
    non_finite: int
    seconds: float
    halved: bool


def execute(model: Model, job: Job, shard: Shard) -> Outcome:
    """Run one shard; when memory runs out the batch is halved and the outcome marked.

    Raises:
        NonFinite: when no state of the shard is finite.
        MemoryError: when even a single row does not fit.
    """
    begun = time.perf_counter()
    try:
        tallies, bad = _observe(model, job, shard)
        halved = False
    except (torch.OutOfMemoryError, MemoryError):
        if len(shard.windows) == 1:
            raise
        tallies, bad = _halves(model, job, shard)
        halved = True
    tokens = len(shard.windows) * shard.length
    return Outcome(shard.name, tallies, tokens, bad, time.perf_counter() - begun, halved)


def _halves(model: Model, job: Job, shard: Shard) -> tuple[dict[str, Tally], int]:
    middle = len(shard.windows) // 2
    outcomes = [
        execute(model, job, part)
        for part in (_part(shard, 0, middle), _part(shard, middle, len(shard.windows)))
    ]
    tallies = {name: outcomes[0].tallies[name].add(outcomes[1].tallies[name]) for name in outcomes[0].tallies}
    return tallies, sum(o.non_finite for o in outcomes)


def _part(shard: Shard, start: int, stop: int) -> Shard:
    pairs = tuple((row - start, p) for row, p in shard.positions if start <= row < stop)
    return replace(shard, windows=shard.windows[start:stop], positions=pairs)


def batch_of(job: Job, shard: Shard) -> Batch:
    """The shard's token ids; `documents` of the batch are the rows' independent units."""
    ids = [job.windows.items[w].ids[: shard.length] for w in shard.windows]
    return replace(Batch.of_ids(ids, [job.units[w] for w in shard.windows]), windows=shard.windows)


def _observe(model: Model, job: Job, shard: Shard) -> tuple[dict[str, Tally], int]:
    view = look(model, job, shard)
    bad = _not_finite(view)
    given = job.given
    observing = [n for n in job.analyses if _observes(job.needs[n], shard)]
    tallies = {n: job.analyses[n].observe(view.seen.model, view.seen.batch, view, given) for n in observing}
    return tallies, bad


def _observes(needs: Needs, shard: Shard) -> bool:
    return shard.sweep in needs.sweeps if shard.sweep else needs.captures


def look(model: Model, job: Job, shard: Shard) -> View:
    """The pass of one shard: a capture reads the union of sites; a sweep reads states and records calls, in float32."""
    batch = batch_of(job, shard)
    states = ("L0.resid_pre", "L*.resid_post")
    if shard.sweep is not None:
        seen = run(model.precise, batch, read=states, record=True)
    else:
        asked = queries(batch.length, job.union.every_query) if job.union.every_query else None
        seen = run(model, batch, read=[*states, *sorted(job.union.sites - set(states))], queries=asked)
    return View(seen, job.union, shard, job.seed)


def _not_finite(view: View) -> int:
    """Positions with a state that is not finite."""
    bad = ~torch.isfinite(view.norms).all(0) & view.seen.batch.mask
    count = int(bad.sum())
    if count == int(view.seen.batch.mask.sum()):
        raise NonFinite(
            f"every position of shard {view.shard.name} has NaN or infinite states in {view.seen.model.name}; "
            "check the weights, or run in float32 or bfloat16 where the model overflows float16"
        )
    return count
