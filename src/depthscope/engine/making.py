"""Studies that make what they measure: no model is given, and the run folder is like that of every other study."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

import depthscope
from depthscope.engine.choice import words
from depthscope.engine.journal import Journal
from depthscope.engine.needs import Parametrised, parameters
from depthscope.engine.progress import Progress, silent
from depthscope.results.result import Findings, Result
from depthscope.store.run import Run, RunFolder, open_run


@runtime_checkable
class Making(Parametrised, Protocol):
    """A study without a model: a frozen dataclass, its module's docstring in the usual sections."""

    def made(self) -> Mapping[str, Any]:
        """What it makes, for the manifest: `name`, `n_layers`, `n_heads`, `d_model`, and the source of its data."""
        ...

    def run(self, journal: Journal, seed: int, progress: Progress) -> Findings:
        """What was found; the journal holds each finished step, so that a second call repeats none."""
        ...


def make(
    name: str,
    study: Making,
    out: str | Path,
    *,
    seed: int = 0,
    progress: Progress = silent,
    command: str = "",
) -> Run:
    """Run such a study into a run folder, which report and show read; the same call resumes a killed one.

    Raises:
        RunMismatch: when `out` holds a run of other parameters. What the study itself raises.
    """
    begun, about = time.perf_counter(), dict(study.made())
    text, asked = words(name, study), json.loads(json.dumps(parameters(study)))
    source = about.pop("source")
    with RunFolder.open_or_create(out, {"study": {name: asked}, "made": about, "seed": seed}) as folder:
        manifest: dict[str, Any] = {
            "depthscope": depthscope.__version__, "model": {**about, "dtype": "float32", "device": "cpu"},
            "data": {"source": source}, "seed": seed, "threads": torch.get_num_threads(),
            "versions": {"torch": version("torch"), "python": platform.python_version()}, "lenses": [], "materials": {},
            "verification": [], "analyses": {name: asked}, "refused": {}, "command": command, "timings": {},
            "non_finite": {"count": 0}, "complete": False,
        }  # fmt: skip
        folder.write_manifest(manifest)
        journal = Journal(folder.parts("journal"), str(about["name"]), source)
        found = study.run(journal, seed, progress)
        folder.write_result(Result(name, asked, found, text, {"seed": seed, "given": {}}))
        seconds = {"study": round(time.perf_counter() - begun, 3)}
        folder.write_manifest({**manifest, "timings": seconds, "complete": True})
    return open_run(out)
