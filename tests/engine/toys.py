"""Toy analyses from outside the package, and a server that starts audits to be killed.

As a program it imports torch once, then forks a process for each order it reads from standard input (a line of JSON),
kills it as ordered, and answers how it ended. A fork that dies is a process that dies; only the imports are shared.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depthscope.engine.audit import audit
from depthscope.engine.executors import local
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Needs, SweepNeed
from depthscope.engine.tally import PerDocument, Tally
from depthscope.results.result import Findings
from depthscope.runtime.tiny import tiny
from depthscope.store import atomic

TEXTS = tuple(
    f"{n} {who} walked {n} miles along the {what} and counted {n + 4} of them before the evening came down on it all."
    for n, (who, what) in enumerate(
        (w, t) for w in ("A heron", "The smith", "My aunt") for t in ("canal", "wall", "old road")
    )
)
"""Nine documents of 95 to 105 characters: as many tokens for the tiny models."""
HOW: dict[str, Any] = {"text": list(TEXTS), "tokens": 600, "window": 40}
FEW = ("logit_lens", "residual_contribution", "layer_skip")
"""Enough for a clean pass, a decode, two sweeps and example tables."""


def fixed_files(run: Path) -> dict[str, bytes]:
    """What an uninterrupted and a resumed run must agree on, byte for byte."""
    found = {
        p.relative_to(run).as_posix(): p.read_bytes()
        for folder in ("measurements", "examples", "inputs")
        for p in (run / folder).rglob("*")
        if p.is_file()
    }
    assert any(name.startswith("measurements/") for name in found)
    return found


@dataclass(frozen=True)
class NormAgainstMedian:
    """Norm against median: how the norm of each state compares with the median of all.

    Question: How far is a typical norm from the median one?

    Method: Mean over positions from 1 on of norm / norm_median of corpus_statistics.

    How to read: Near 1.

    What misleads: Sinks.

    Source: None.
    """

    power: int = 1

    def needs(self, anatomy: Any) -> Needs:
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), after=("corpus_statistics",))

    def observe(self, model: Any, batch: Any, seen: Any, given: Mapping[str, Any]) -> Tally:
        median = given["corpus_statistics"]["norm_median"].value
        norms = seen.norms[:, :, 1:].permute(1, 2, 0).reshape(-1, len(median)).double().numpy()
        units = [u for u in seen.units for _ in range(batch.length - 1)]
        return Tally({"ratio": PerDocument.of(units, (norms / median) ** self.power)})

    def conclude(self, total: Tally, facts: Any) -> Findings:
        axes = {"state": np.arange(facts.n_layers + 1)}
        return Findings({"ratio": mean(part(total, "ratio", PerDocument), "ratio", axes, "1", facts)})


@dataclass(frozen=True)
class DiesOnce:
    """Dies once: a worker that reads with it is killed the first time.

    Question: Is a lost worker replaced?

    Method: SIGKILL to the own process when the flag file is not there, after putting it there.

    How to read: 1.

    What misleads: Nothing.

    Source: None.
    """

    flag: str
    coordinator: int

    def needs(self, anatomy: Any) -> Needs:
        return Needs(frozenset({"L*.resid_post"}))

    def observe(self, model: Any, batch: Any, seen: Any, given: Mapping[str, Any]) -> Tally:
        assert os.getpid() != self.coordinator
        assert torch.get_num_threads() == 1
        if not Path(self.flag).exists():
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Tally({"one": PerDocument.of(seen.units, np.ones(batch.rows))})

    def conclude(self, total: Tally, facts: Any) -> Findings:
        return Findings({"one": mean(part(total, "one", PerDocument), "one", {}, "1", facts)})


@dataclass(frozen=True)
class MixerSkip:
    """Mixer skip: a sweep of its own, whose shards sort before those of layer_skip.

    Question: How much does the output change without a mixer?

    Method: Sums of output KL.

    How to read: Larger is more.

    What misleads: Nothing.

    Source: None.
    """

    def needs(self, anatomy: Any) -> Needs:
        return Needs(sweeps=frozenset({SweepNeed(("attention",), (), 64, 4)}))

    def observe(self, model: Any, batch: Any, seen: Any, given: Mapping[str, Any]) -> Tally:
        return Tally({"kl": PerDocument.of(seen.units, seen.effects.output_kl.T.numpy())})

    def conclude(self, total: Tally, facts: Any) -> Findings:
        axes = {"layer": np.arange(facts.n_layers)}
        return Findings({"kl": mean(part(total, "kl", PerDocument), "kl", axes, "nats", facts)})


# ------------------------------------------------------------------------------------------------------------- killing


def die() -> None:
    """End as a power loss ends a process: at once, with nothing flushed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Point:
    """The n-th write of a file whose path ends in `suffix`; `when` is "before", "half" or "after" its rename."""

    when: str
    suffix: str
    number: int
    met: int = 0

    def here(self, path: Path) -> bool:
        self.met += path.as_posix().endswith(self.suffix)
        return path.as_posix().endswith(self.suffix) and self.met == self.number


class Half:
    """A file that takes half of what is written, and then the process is gone."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> None:
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        die()


def dying_at(point: Point) -> None:
    """Make this process die when its writes reach a point."""
    whole: Callable[[Path], Any] = atomic.replacing

    @contextmanager
    def replacing(path: Path) -> Iterator[Any]:
        here = point.here(path)
        if here and point.when == "before":
            die()
        with whole(path) as file:
            yield Half(file) if here and point.when == "half" else file
        if here:
            die()

    atomic.replacing = replacing


def serve() -> None:
    """Read orders and answer each with how the process ended and how long it took."""
    model = tiny("llama", torch.float32)
    for line in sys.stdin:
        order = json.loads(line)
        begun = time.perf_counter()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                # a shell starts background jobs with Ctrl-C ignored, and children inherit that
                signal.signal(signal.SIGINT, signal.default_int_handler)
                obey(order, model)
                code = 0
            finally:
                os._exit(code)
        if order.get("after") is not None:
            time.sleep(order["after"])
            os.kill(child, getattr(signal, order.get("signal", "SIGKILL")))
        _, status = os.waitpid(child, 0)
        ended = {"code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - begun}
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()


def obey(order: dict[str, Any], model: Any) -> None:
    """Run one audit, or leave a worker behind whose parent is about to be killed."""
    if order["do"] == "orphan":
        worker = get_context("fork").Process(target=_wait_forever)
        worker.start()
        Path(order["out"]).write_text(str(worker.pid))
        time.sleep(60)
        return
    if "point" in order:
        dying_at(Point(*order["point"]))
    audit(model, FEW, out=order["out"], **HOW)


def _wait_forever() -> None:
    nothing: Any = None
    local._start(nothing, nothing, 1)
    time.sleep(60)


if __name__ == "__main__":
    serve()
