"""Saved checkpoints of one training, in the order of their steps: revisions on the hub, or folders in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput, LoadError, Refused
from depthscope.runtime.checkpoint import Options, open_config, open_tokenizer
from depthscope.store.steps import step_of

_HIDDEN = (".", "_")


@dataclass(frozen=True)
class Saved:
    """One checkpoint.

    Args:
        label: its name, which is also the name of its run. step: training steps before it was saved.
        where: folder or hub id. revision: of a hub id.
    """

    label: str
    step: int
    where: str
    revision: str | None = None

    @property
    def options(self) -> Options:
        """How its configuration and tokenizer are opened."""
        return Options(self.revision)

    def prints(self) -> list[list[Any]]:
        """Name, size and time of each file of a folder: what must be equal for its numbers to be used again.

        Empty for a revision on the hub, which names its content.
        """
        if self.revision is not None or not Path(self.where).is_dir():
            return []
        files = sorted(p for p in Path(self.where).iterdir() if p.is_file())
        return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]


def in_folder(folder: str | Path) -> tuple[Saved, ...]:
    """The checkpoints in a folder: every folder in it whose name holds a number, which is its step.

    Raises:
        BadInput: when there is no such folder, no checkpoint in it, or two with one step.
    """
    path = Path(folder)
    if not path.is_dir():
        raise BadInput(
            f"--folder {path}: there is no such folder; give one that holds a folder for each checkpoint"
        )
    inside = [
        p
        for p in path.iterdir()
        if p.is_dir() and not p.name.startswith(_HIDDEN) and step_of(p.name) is not None
    ]
    if not inside:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
        raise BadInput(
            f"--folder {path} holds no checkpoint: a folder with a number in its name, as step-1000 (it holds {there})"
        )
    return _ordered(Saved(p.name, step_of(p.name) or 0, str(p)) for p in inside)


def on_hub(model: str, revisions: Iterable[str]) -> tuple[Saved, ...]:
    """Revisions of a hub id; the step is the number in a revision's name, or is given as `main=143000`.

    Raises:
        BadInput: for a revision without a number, none at all, or two with one step.
    """
    found: list[Saved] = []
    for item in (piece.strip() for piece in revisions):
        name, _, given = item.partition("=")
        step = int(given) if given.isdigit() else step_of(name)
        if step is None or (given and not given.isdigit()):
            raise BadInput(f"--revisions: the step of {item!r} is not known; write it as {name}=143000")
        found.append(Saved(name, step, model, name))
    if not found:
        raise BadInput("--revisions names no revision; write them as step1,step1000,main=143000")
    return _ordered(found)


def shared_tokenizer(saved: Iterable[Saved]) -> tuple[Any, str]:
    """The tokenizer that all checkpoints are read with, that of the last one which has one; and its model type.

    Raises:
        Refused: when none has a tokenizer.
    """
    every = list(saved)
    for one in reversed(every):
        try:
            tokenizer = open_tokenizer(one.where, one.options)
            model_type = str(open_config(one.where, one.options).get_text_config().model_type)
        except LoadError:  # a broken checkpoint is told of when its turn comes
            continue
        if tokenizer is not None:
            return tokenizer, model_type
    raise Refused(
        f"none of the {len(every)} checkpoints ({every[0].label} to {every[-1].label}) has a tokenizer that can be "
        "read; put tokenizer.json beside the weights of the last one"
    )


def _ordered(found: Iterable[Saved]) -> tuple[Saved, ...]:
    every = sorted(found, key=lambda one: one.step)
    twice = [step for step, count in Counter(one.step for one in every).items() if count > 1]
    if twice:
        names = ", ".join(one.label for one in every if one.step == twice[0])
        raise BadInput(f"{names} have one step, {twice[0]}; a curve over steps needs one checkpoint a step")
    return tuple(every)
