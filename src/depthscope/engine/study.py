"""Studies: adaptive work on one text, step by step through a journal, into a run folder like that of an audit."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

from depthscope.engine.audit import verified
from depthscope.engine.choice import words
from depthscope.engine.journal import Journal
from depthscope.engine.needs import Parametrised, parameters
from depthscope.engine.progress import Progress, silent
from depthscope.engine.provenance import described, hashed, identity
from depthscope.engine.source import Source
from depthscope.materials.window import Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Model
from depthscope.store.folder import MANIFEST
from depthscope.store.run import Run, RunFolder, open_run


@runtime_checkable
class Readable(Protocol):
    """What a study reads: `engine.reading.Reading`, or a material of its own."""

    @property
    def window(self) -> int:
        """Tokens a window."""
        ...

    def windows(self, model: Model) -> Windows:
        """All windows, in order."""
        ...


@dataclass(frozen=True)
class Work:
    """What a study works with.

    Args:
        model: hashed. windows: the text. units: the independent unit of each window; kind: what a unit is.
        journal: remembers finished steps. folder: the run folder; a study may leave artefacts in it.
        progress: called with (phase, done, total).
    """

    model: Model
    windows: Windows
    units: tuple[str, ...]
    kind: str
    journal: Journal
    folder: Path
    seed: int = 0
    progress: Progress = silent


@runtime_checkable
class Study(Parametrised, Protocol):
    """Adaptive work: a frozen dataclass whose fields are its parameters, its module's docstring in the usual sections.

    `depends` says what else its numbers depend on (a second model, task files): JSON, part of the run's key.
    """

    def depends(self) -> Mapping[str, Any]:
        """What the numbers depend on besides model, text, seed and parameters, as JSON."""
        ...

    def run(self, work: Work) -> Findings:
        """What was found; the journal holds each finished step, so that a second call repeats none."""
        ...


def conduct(
    name: str,
    study: Study,
    model: Model,
    reading: Readable,
    out: str | Path,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
) -> Run:
    """Run a study into a run folder, which report, show and compare read; the same call resumes a killed one.

    Raises:
        RunMismatch: when `out` holds a run of other parameters. LawBroken: when a law is red and `force` is off.
        What reading the text and the study itself raise.
    """
    check_ranges(SimpleNamespace(seed=seed), seed=at_least(0))
    model, begun = hashed(model), time.perf_counter()
    source = Source.of("text", reading.windows(model))
    text = words(name, study)
    asked = json.loads(json.dumps(parameters(study)))
    about = {**identity(model), "data": source.windows.hash, "seed": seed}
    laws = verified(model, force, Path(out) / MANIFEST)
    key = {**about, "window": reading.window, "study": {name: asked, **study.depends()}}
    with RunFolder.open_or_create(out, key) as folder:
        manifest = {
            **described(model, source, seed, {}), "workers": 1, "lenses": [], "materials": {}, "verification": laws,
            "analyses": {name: asked}, "refused": {}, "command": command, "timings": {},
            "non_finite": {"count": 0}, "complete": False,
        }  # fmt: skip
        folder.write_manifest(manifest)
        source.write(folder)
        journal = Journal(folder.parts("journal"), json.dumps(identity(model)), source.windows.hash)
        work = Work(model, source.windows, source.units, source.kind, journal, folder.path, seed, progress)
        found = study.run(work)
        notes = (*found.notes, *source.caveats(0))
        folder.write_result(
            Result(
                name, asked, replace(found, notes=notes), text, {**about, "units": source.kind, "given": {}}
            )
        )
        seconds = {"study": round(time.perf_counter() - begun, 3)}
        folder.write_manifest({**manifest, "timings": seconds, "complete": True})
    return open_run(out)
