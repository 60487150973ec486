"""What a fit says while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from depthscope.engine.progress import Progress, silent


def _unheard(step: int, losses: Sequence[float]) -> None:
    del step, losses


@dataclass(frozen=True)
class Watch:
    """Who is told: by default nobody.

    Args:
        progress: called with (phase, done, total); phases are "fit" and "judge".
        losses: called at every check of a training with the step and the validation loss of each state.
    """

    progress: Progress = silent
    losses: Callable[[int, Sequence[float]], None] = _unheard


SILENT = Watch()
"""Nobody watches."""
