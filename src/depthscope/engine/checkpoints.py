"""Checkpoints of one training: how what the layers hold comes about, step by step.

Question: When in training, and in which layers, does a measurement get the values it ends with?

Method: Every checkpoint is audited with the same analyses on the same windows, in a run folder of its own inside
`checkpoints/`. The tokenizer is that of the last checkpoint. What all of them measured is laid over each other along
an axis `step`. Of curves over depth with an interval, NAME_total_change is the sum over successive checkpoints of the
size of the change at that depth, and NAME_settled_step the first step from which on the value stays within a tenth of
its whole range of its last value.

How to read: A map of depth by step: rows that reach their last colour early settled early. Steps are mostly spaced by
factors, so equal distances are equal factors of training.

What misleads: A change adds up noise as well as learning, and more checkpoints add up more: compare changes of one
series only. What settles in the coarse steps given may have settled anywhere between two of them. Curves of one
training say nothing of another seed.

Source: Skean et al. 2025, Layer by Layer (arXiv 2502.02013), on training progress; Biderman et al. 2023, Pythia
(2304.01373).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from depthscope.engine.audit import audit
from depthscope.engine.needs import Analysis, parameters
from depthscope.engine.progress import Progress, silent
from depthscope.engine.reading import Reading
from depthscope.engine.saved import Saved, shared_tokenizer
from depthscope.engine.step_findings import over_steps
from depthscope.errors import BadInput, DepthscopeError, LoadError
from depthscope.materials.window import Windows
from depthscope.registry import ANALYSES
from depthscope.results.result import Result, Text
from depthscope.runtime.load import load
from depthscope.store.atomic import read_json, write_json
from depthscope.store.run import Run, RunFolder, open_run

NAME = "checkpoints"
"""Of the result, and of the folder of the checkpoints' own runs."""
DEFAULT = ("corpus_statistics", "logit_lens", "representation_profile")
"""What runs on every checkpoint unless analyses are named."""


@dataclass(frozen=True)
class Opening:
    """How every checkpoint is opened; see `runtime.load.load`."""

    dtype: str | None = None
    device: str | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False


def follow(
    saved: Sequence[Saved],
    analyses: Sequence[str | Analysis] | None = None,
    *,
    out: str | Path,
    reading: Reading | None = None,
    opening: Opening | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
) -> Run:
    """Audit every checkpoint and leave a run folder whose measurements have an axis `step`.

    A checkpoint whose run is complete and whose files are as they were is not loaded again; one that cannot be read is
    left out, and named in an error once the others are done. The same call, with more checkpoints or analyses if
    wanted, goes on where it was.

    Args:
        saved: see `engine.saved`. analyses: names or objects; by default DEFAULT. reading: the text.

    Raises:
        LoadError: when a checkpoint gave no numbers; those of the others are in `out` all the same.
        RunMismatch: when `out` holds another text, seed or model. Refused: when no checkpoint has a tokenizer.
    """
    if not saved:
        raise BadInput("there is no checkpoint to follow; see --folder and --revisions")
    reading, opening = reading or Reading(), opening or Opening()
    asked = [ANALYSES[one]() if isinstance(one, str) else one for one in analyses or DEFAULT]
    tokenizer, model_type = shared_tokenizer(saved)
    windows = reading.cut(tokenizer, model_type)
    name = saved[-1].where if saved[-1].revision else str(Path(saved[-1].where).parent)
    key = {
        "model": name, "data": windows.hash, "window": reading.window, "seed": seed, "dtype": opening.dtype or "auto",
        "kernel": opening.attn_implementation or "auto",
    }  # fmt: skip
    with RunFolder.open_or_create(out, key) as folder:
        sweep = _Sweep(asked, reading, opening, tokenizer, windows, folder, seed, force, progress, command)
        broken: dict[str, str] = {}
        for number, one in enumerate(saved):
            progress(NAME, number, len(saved))
            try:
                sweep.done(one)
            except DepthscopeError as error:
                broken[one.label] = f"{type(error).__name__}: {error}"
        progress(NAME, len(saved), len(saved))
        sweep.write([one for one in saved if one.label not in broken], name, broken)
    if broken:
        raise LoadError(_told(broken, len(saved), Path(out)))
    return open_run(out)


@dataclass(frozen=True)
class _Sweep:
    asked: Sequence[Analysis]
    reading: Reading
    opening: Opening
    tokenizer: Any
    windows: Windows
    folder: RunFolder
    seed: int
    force: bool
    progress: Progress
    command: str

    def place(self, one: Saved) -> Path:
        """The run folder of a checkpoint."""
        return self.folder.path / NAME / one.label

    def done(self, one: Saved) -> None:
        """Audit a checkpoint, unless a mark says that just this was done."""
        mark = self.folder.parts(NAME) / f"{one.label}.json"
        wanted = {
            "where": one.where, "revision": one.revision, "step": one.step, "files": one.prints(),
            "analyses": [[type(a).__name__, parameters(a)] for a in self.asked],
        }  # fmt: skip
        if mark.exists() and read_json(mark) == _plain(wanted):
            return
        found = load(
            one.where, revision=one.revision, dtype=self.opening.dtype, device=self.opening.device,
            attn_implementation=self.opening.attn_implementation, trust_remote_code=self.opening.trust_remote_code,
        )  # fmt: skip
        read = self.reading
        audit(
            replace(found, tokenizer=self.tokenizer), self.asked, out=self.place(one), text=read.text, field=read.field,
            tokens=read.tokens, window=read.window, bos=read.bos, max_length=read.max_length, chat=read.chat,
            seed=self.seed, force=self.force, command=self.command,
        )  # fmt: skip
        write_json(mark, wanted)

    def write(self, finished: Sequence[Saved], name: str, broken: Mapping[str, str]) -> None:
        """The result over steps, and a manifest like that of the last checkpoint's own run."""
        if not finished:
            return
        runs = [open_run(self.place(one)) for one in finished]
        last = {k: v for k, v in runs[-1].manifest.items() if k not in ("schema", "key")}
        asked = {
            "steps": [one.step for one in finished], "checkpoints": [one.label for one in finished],
            "analyses": {n: runs[-1].manifest["analyses"][n] for n in runs[-1]}, "broken": dict(broken),
        }  # fmt: skip
        found = over_steps(runs, [one.step for one in finished])
        about = {"data": self.windows.hash, "seed": self.seed, "model": name, "given": {}}
        self.folder.write_result(Result(NAME, asked, found, Text.of(__doc__ or ""), about))
        model = {**last["model"], "name": name, "revision": None}
        self.folder.write_manifest({
            **last, "model": model, "analyses": {NAME: asked}, "command": self.command, "complete": not broken
        })  # fmt: skip


def _plain(wanted: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """As JSON gives it back."""
    return json.loads(json.dumps(wanted))


def _told(broken: Mapping[str, str], count: int, out: Path) -> str:
    each = "; ".join(f"{label}: {reason}" for label, reason in broken.items())
    rest = f"those of the other {count - len(broken)} are in {out}" if count > len(broken) else "none did"
    return f"{len(broken)} of {count} checkpoints gave no numbers ({rest}). Mend them and repeat the command. {each}"
