"""Training steps in the names of checkpoints and of their runs."""

from __future__ import annotations

import re

_MARKED = re.compile(r"(?:step|checkpoint|ckpt|iter|global)[-_]?(\d+)", re.IGNORECASE)


def marked_step(name: str) -> int | None:
    """The number behind step, checkpoint, ckpt, iter or global in a name; None without such a mark."""
    marked = _MARKED.search(name)
    return int(marked[1]) if marked else None


def step_of(name: str) -> int | None:
    """The step in a name that is known to be a checkpoint's: the marked number, else the last one; None without any."""
    numbers = re.findall(r"\d+", name)
    marked = marked_step(name)
    return marked if marked is not None else int(numbers[-1]) if numbers else None
