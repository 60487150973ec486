"""`depthscope iterate`: a small transformer trained on sequences that are worked through step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say, say_json, say_table
from depthscope.engine.progress import silent
from depthscope.errors import BadInput

Task = Annotated[str, typer.Argument(help="copy, parity or polynomial.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the checkpoints; default: runs/iterate-TASK.")]
Longest = Annotated[int, typer.Option(help="The most inputs of a sequence.")]
HeldOut = Annotated[
    str, typer.Option(help="Numbers of inputs that are never trained on, with commas between.")
]
Offset = Annotated[int, typer.Option(help="Full stops before a sequence, drawn from 0 to this.")]
Start = Annotated[
    str, typer.Option(help="Another such network to start from: a folder, or iteration-polynomial.")
]
Beside = Annotated[
    bool, typer.Option("--beside-scratch", help="Train from random weights too, and set both side by side.")
]
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
    beside_scratch: Beside = False,
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
    if beside_scratch:
        if hidden or offset:
            raise BadInput(
                "--beside-scratch trains on all lengths from position 0; leave out --held-out and --offset"
            )
        sizes = {"layers": layers, "heads": heads, "d_model": d_model, "longest": longest}
        _transfer({"task": task, "start": start, "steps": steps, "rows": rows, "lr": lr, "every": every, **sizes},
                  out or Path("runs") / f"transfer-{task}", seed, as_json)  # fmt: skip
        return
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


def _transfer(asked: dict[str, Any], out: Path, seed: int, as_json: bool) -> None:
    """Both trainings as one study with a report."""
    from depthscope.engine.making import make
    from depthscope.fits.iteration_transfer import IterationTransfer
    from depthscope.report.page import write_report

    begun, study = time.perf_counter(), IterationTransfer(**asked)
    progress = silent if as_json else _line
    run = make("iteration_transfer", study, out, seed=seed, progress=progress, command=command_line())
    page, found = write_report(run), run["iteration_transfer"]
    seconds = time.perf_counter() - begun
    if as_json:
        say_json({"run": str(run.path), "report": str(page), "seconds": seconds})
        return
    right, names = found["right"], [str(name) for name in found["right"].axes["variant"]]
    last = right.axes["step"][-1]
    rows = [
        (str(n), *(f"{right.at(variant=name, step=last, level=n):.3f}" for name in names))
        for n in right.axes["level"]
    ]
    say_table(("inputs", *names), rows)
    say(f"trained in {seconds:.1f} s")
    typer.echo(str(page))


def _line(phase: str, done: int, total: int) -> None:
    if done % EVERY == 0 or done == total:
        say(f"{phase}: step {done} of {total}")
