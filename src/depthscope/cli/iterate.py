"""`depthscope iterate`: a small transformer trained on sequences that are worked through step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say, say_json, say_table
from depthscope.engine.progress import silent

Task = Annotated[str, typer.Argument(help="copy, parity or polynomial.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the checkpoints; default: runs/iterate-TASK.")]
Longest = Annotated[int, typer.Option(help="The most inputs of a sequence.")]
HeldOut = Annotated[
    str, typer.Option(help="Numbers of inputs that are never trained on, with commas between.")
]
Offset = Annotated[int, typer.Option(help="Full stops before a sequence, drawn from 0 to this.")]
Start = Annotated[str, typer.Option(help="Folder of another such network to start from.")]
EVERY = 50
"""Steps between two lines that say how far the training is."""


def command(
    task: Task,
    out: Out = None,
    steps: Annotated[int, typer.Option(help="Steps of the training.")] = 1000,
    every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 100,
    rows: Annotated[int, typer.Option(help="Sequences a step.")] = 256,
    lr: Annotated[float, typer.Option(help="The rate.")] = 1e-3,
    longest: Longest = 8,
    held_out: HeldOut = "",
    layers: Annotated[int, typer.Option(help="Blocks of the transformer.")] = 2,
    heads: Annotated[int, typer.Option(help="Attention heads of each block.")] = 1,
    d_model: Annotated[int, typer.Option("--d-model", help="Width of the stream.")] = 64,
    offset: Offset = 0,
    start: Start = "",
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train the network; the same command goes on where it was stopped."""
    from depthscope.fits.iteration import CARD, IterationTraining
    from depthscope.fits.iteration_course import IterationCourse
    from depthscope.fits.watch import Watch
    from depthscope.store.atomic import read_json

    begun = time.perf_counter()
    hidden = options.numbers("--held-out", held_out, int)
    course = IterationCourse(task, longest, hidden, layers, heads, d_model, steps, rows, lr, every, offset)
    place = out or Path("runs") / f"iterate-{task}"
    watch = Watch(silent if as_json else _line)
    folder = IterationTraining(course, seed, start).run(place, watch=watch, command=command_line())
    learnt, seconds = read_json(folder / CARD)["learnt"][str(steps)], time.perf_counter() - begun
    if as_json:
        say_json({"checkpoints": str(folder), "right": learnt, "seconds": seconds})
        return
    say_table(("inputs", "whole sequences right"), [(n, f"{share:.3f}") for n, share in learnt.items()])
    say(f"trained in {seconds:.1f} s")
    typer.echo(str(folder))


def _line(phase: str, done: int, total: int) -> None:
    if done % EVERY == 0 or done == total:
        say(f"{phase}: step {done} of {total}")
