"""The local executor: in this process, or in worker processes of this machine."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Any

import torch

from depthscope.engine.execute import Job, Outcome, execute
from depthscope.engine.shard import Shard
from depthscope.errors import WorkerLost
from depthscope.runtime.model import Model

_STATE: dict[str, Any] = {}


def outcomes(model: Model, job: Job, shards: Sequence[Shard], workers: int = 1) -> Iterator[Outcome]:
    """Run shards and yield their outcomes as they finish.

    With several workers each has its own copy of the model and cores / workers threads, but no more than this process
    uses. A worker that dies (killed, out of memory) is replaced once and its unfinished shards run again; workers end
    with this process, even where it is killed.

    Raises:
        WorkerLost: when workers die a second time.
    """
    if workers <= 1:
        yield from (execute(model, job, shard) for shard in shards)
        return
    left = {shard.name: shard for shard in shards}
    for attempt in (1, 2):
        try:
            for outcome in _pooled(model, job, list(left.values()), workers):
                del left[outcome.shard]
                yield outcome
        except BrokenProcessPool as error:
            if attempt == 2:
                names = ", ".join(list(left)[:3])
                raise WorkerLost(
                    f"worker processes died twice; unfinished: {names}. Use --workers 1 or fewer tokens"
                ) from error
        else:
            return


def _pooled(model: Model, job: Job, shards: Sequence[Shard], workers: int) -> Iterator[Outcome]:
    threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // workers))
    with ProcessPoolExecutor(workers, _starting(), _start, (model, job, threads)) as pool:
        waiting: set[Future[Outcome]] = {pool.submit(_work, shard) for shard in shards}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def _starting() -> BaseContext:
    """How workers start: forked from a server that imported this module once for all pools of a run.

    The server never runs a model, so it has no threads and no device that a fork would break. Elsewhere than on Linux
    libraries may not be forked at all, and each worker imports everything anew.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start(model: Model, job: Job, threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _STATE.update(model=model, job=job)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(shard: Shard) -> Outcome:
    return execute(_STATE["model"], _STATE["job"], shard)
