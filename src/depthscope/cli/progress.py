"""How a verb shows that it goes on: a bar on a terminal, lines where phases are few, nothing in a pipe."""

from __future__ import annotations

import sys
import time
from typing import Any

import typer

from depthscope.engine.progress import Progress, silent


def lines(phase: str, done: int, total: int) -> None:
    """One line each time, on standard error."""
    typer.echo(f"{phase}: {done} of {total}" if total > 1 else phase, err=True)


def bar() -> Progress:
    """A bar with rate and remaining time on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        return silent
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    drawn = Bars(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}/{task.total:,.0f} tokens"),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=Console(stderr=True),
    )  # fmt: skip
    state: dict[str, Any] = {}

    def show(phase: str, done: int, total: int) -> None:
        if phase not in state:
            drawn.start()
            state[phase] = (
                drawn.add_task(phase, total=total, completed=done, rate=""),
                time.perf_counter(),
                done,
            )
        task, begun, first = state[phase]
        rate = (done - first) / max(1e-9, time.perf_counter() - begun)
        drawn.update(task, completed=done, total=total, rate=f"{rate:,.0f} tokens/s" if done > first else "")
        if done >= total:
            drawn.stop()

    return show
