"""Scores of heads from other runs of the same model: gates, function vectors, whatever an atlas does not wait for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from depthscope.engine.atlas_scores import SOURCES, scores_of
from depthscope.engine.provenance import identity
from depthscope.errors import BadInput
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import RANDOM
from depthscope.store.folder import MANIFEST
from depthscope.store.run import open_run


def joined_digest(runs: Sequence[str]) -> str:
    """A digest of all scores that the runs hold, which changes with their numbers; "" without runs.

    Raises:
        BadInput: for a folder that holds no run, an unfinished one, or no score of heads.
    """
    found = hashlib.sha256()
    for folder in runs:
        _must_be_finished(folder)
        for name, parts in _scores(folder, _changed(folder)).items():
            found.update(name.encode() + np.ascontiguousarray(parts).tobytes())
    return found.hexdigest()[:12] if runs else ""


def joined_scores(runs: Sequence[str], model: Model) -> dict[str, np.ndarray]:
    """Score -> [part, layer, head] like `scores_of`, of all runs; of a score that several hold the last.

    A model of random weights, the null of a run, joins nothing: what others measured is not about it.

    Raises:
        BadInput: for a run of another model.
    """
    found: dict[str, np.ndarray] = {}
    own = identity(model)["weights_hash"]
    if str(own).startswith(RANDOM):
        return found
    for folder in runs:
        of = open_run(folder).manifest.get("model", {})
        if of.get("weights_hash") != own:
            raise BadInput(
                f"head_atlas.runs: {folder} is of {of.get('name')} (weights {str(of.get('weights_hash'))[:12]}), the "
                f"atlas reads {model.name} (weights {str(own)[:12]}); scores go by index of heads, so weights must be "
                "equal"
            )
        found |= _scores(folder, _changed(folder))
    return found


def _must_be_finished(folder: str) -> None:
    _changed(folder)
    run = open_run(folder)
    if not run.complete:
        missing = [name for name in run.manifest.get("analyses", {}) if name not in run]
        command = run.manifest.get("command")
        again = f": {command}" if command else ""
        raise BadInput(
            f"head_atlas.runs: {folder} is an unfinished run (without {', '.join(missing) or 'its end'}), and its "
            f"scores may still change; finish it with the command that began it{again}, or leave it out"
        )


def _changed(folder: str) -> int:
    """When the run was last written: what is kept of it holds until then."""
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise BadInput(f"head_atlas.runs: {folder} holds no run; give folders that depthscope wrote")
    return manifest.stat().st_mtime_ns


@lru_cache(maxsize=8)
def _scores(folder: str, changed: int) -> dict[str, np.ndarray]:
    del changed
    run = open_run(folder)
    analyses = {source.analysis for source in SOURCES.values()} & set(run)
    found = scores_of({name: run[name] for name in analyses})
    if not found:
        raise BadInput(
            f"head_atlas.runs: {folder} holds no score by layer and head (it holds {', '.join(run) or 'nothing'}); an "
            f"atlas reads {', '.join(sorted({s.analysis for s in SOURCES.values()}))}"
        )
    return found
