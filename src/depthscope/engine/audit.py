"""Audit: the engine's one verb. Analyses over a text, shard by shard, into a run folder that can always be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from depthscope.engine.choice import chosen
from depthscope.engine.needs import Analysis
from depthscope.engine.progress import Progress, silent
from depthscope.engine.provenance import hashed, identity
from depthscope.engine.reading import Reading
from depthscope.engine.session import BUDGET, Session
from depthscope.engine.source import Lenses, lenses_of
from depthscope.errors import BadInput, LawBroken, NonFinite
from depthscope.materials.edges import Bos
from depthscope.materials.window import Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Model
from depthscope.runtime.verify import verify
from depthscope.store.atomic import read_json
from depthscope.store.folder import MANIFEST
from depthscope.store.run import Run, RunFolder, open_run


def audit(
    model: Model,
    analyses: Iterable[str | Analysis] | None = None,
    *,
    out: str | Path,
    text: str | Path | Sequence[str] | None = None,
    tokens: int = 8192,
    window: int = 256,
    field: str = "text",
    bos: Bos = "auto",
    max_length: int | None = None,
    chat: bool = False,
    seed: int = 0,
    workers: int = 1,
    budget: int = BUDGET,
    null: str | None = None,
    force: bool = False,
    lens: Lenses = LOGIT.name,
    progress: Progress = silent,
    command: str = "",
) -> Run:
    """Run analyses over a text and leave a run folder; the same call resumes a killed run.

    Args:
        analyses: names or analysis objects; None runs FIRST, leaving out what the model refuses.
        out: the run folder. An analysis can be added to a finished one: only what is new runs.
        text, tokens, window, field, bos, max_length, chat: see `Reading`.
        workers: processes on this machine, each with a copy of the model; numbers do not depend on it.
        budget: bytes of streams held beyond the model.
        null: "shuffled" reads the same tokens in random order (for "untrained" give a model with random weights).
        force: go on although a law is broken on these weights; the report says so.
        lens: what states are decoded through: `logit`, a folder that `depthscope fit` wrote, or several (with commas):
            the first is the run's, the others stand beside it where an analysis compares lenses.
        progress: called with (phase, tokens done, tokens in all).

    Raises:
        Refused: when the model cannot answer a named analysis. LawBroken: when a law is red and `force` is off.
        RunMismatch: when `out` holds a run of other parameters. BadInput, EmptyMaterial: for unusable text, a seed
            below 0, no worker.
        NonFinite: when the model gives no finite number.

    Example:
        >>> run = ds.audit(model, ["residual_contribution"], tokens=256, window=32, out="runs/first")
        >>> found = run["residual_contribution"]
        >>> found["block_relative_norm"].axes["layer"].tolist()
        [0, 1, 2, 3]
    """
    check_ranges(SimpleNamespace(seed=seed, workers=workers), seed=at_least(0), workers=at_least(1))
    if null not in (None, "shuffled"):
        raise BadInput(f"null={null!r}; it is 'shuffled' or None")
    model = hashed(model)
    asked = chosen(analyses, model)
    reading = Reading(text, field, tokens, window, bos, max_length, chat)
    windows = reading.windows(model)
    windows = windows.shuffled(seed) if null == "shuffled" else windows
    lenses = lenses_of(lens, model)
    begun = time.perf_counter()
    laws = verified(model, force, Path(out) / MANIFEST)  # before there is a folder that a refusal would leave
    seconds = {"verify": time.perf_counter() - begun}
    with RunFolder.open_or_create(out, _key(model, windows, seed, window, lenses)) as folder:
        auditor = Session(model, windows, folder, seed, workers, budget, progress, seconds, lenses)
        auditor.prepare(asked, command, laws)
        auditor.work(asked)
        auditor.finish()
    return open_run(out)


def verified(model: Model, force: bool, manifest: Path) -> list[dict[str, Any]]:
    """What each law says of the loaded weights: what the manifest of an earlier session keeps, or a new check.

    Raises:
        NonFinite: when the weights give NaN. LawBroken: when a law is broken; both only where `force` is off.
    """
    stored = read_json(manifest).get("verification") if manifest.exists() else None
    found = stored or [_plain(v.as_dict()) for v in verify(model)]
    broken = [v for v in found if v["status"] == "broken"]
    if not broken or force:
        return found
    if all(v["worst"] is None for v in broken):
        raise NonFinite(
            f"{model.name} gives NaN or infinite numbers on the text that laws are checked on; check the weights, or "
            "run in float32 or bfloat16 where the model overflows float16"
        )
    said = "; ".join(f"law {v['law']}, {v['title']}: {v['reason']}" for v in broken)
    raise LawBroken(
        f"{model.name} breaks {said}. Numbers would not mean what they say; --force runs all the same"
    )


def _plain(verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict as JSON, which has no form for an error that is not finite."""
    worst = verdict["worst"]
    return verdict if worst is None or math.isfinite(worst) else {**verdict, "worst": None}


def _key(model: Model, windows: Windows, seed: int, window: int, lenses: tuple[Lens, ...]) -> dict[str, Any]:
    named = [lens.name if lens is LOGIT else f"{lens.name} {lens.identity}" for lens in lenses]
    return {**identity(model), "data": windows.hash, "window": window, "seed": seed, "lens": ", ".join(named)}
