"""`depthscope prune MODEL`: remove layers, say what it costs, and leave a smaller checkpoint."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import say_json
from depthscope.cli.progress import lines
from depthscope.engine.progress import silent
from depthscope.errors import BadInput

Remove = Annotated[int, typer.Option(help="Layers to remove.")]
Budget = Annotated[
    float,
    typer.Option(
        help="Instead of --remove: as many layers as keep each task within so many points of 100; without tasks, "
        "perplexity within so many percent."
    ),
]
Tasks = Annotated[
    str, typer.Option(help="File of tasks, JSON lines; without it nothing is verified by tasks.")
]
Margin = Annotated[float, typer.Option(help="Points that a task may lose; with --remove.")]
Needed = Annotated[int, typer.Option(help="Fewest items of a task.")]
Protect = Annotated[str, typer.Option(help="Layers that stay: 0,4-8,-1.")]
Most = Annotated[int, typer.Option(help="Most layers tried for a budget; default: a third.")]
Repeats = Annotated[int, typer.Option(help="Repeats of each measured speed.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-pruned.")]


def command(
    model: options.Model,
    *,
    remove: Remove = 0,
    budget: Budget = 0.0,
    corpus: options.Corpus,
    tasks: Tasks = "",
    out: Out = None,
    margin: Margin = 2.0,
    needed: Needed = 100,
    protect: Protect = "",
    most: Most = 0,
    repeats: Repeats = 10,
    loading: options.Loading,
    revision: options.Revision = None,
    work: options.Work,
    report: options.Report = True,
) -> None:
    """Remove layers from a model and leave a checkpoint that loads; the same command resumes one that was stopped."""
    from depthscope.advise.prune import Prune
    from depthscope.advise.pruning import CHECKPOINT
    from depthscope.engine.study import conduct
    from depthscope.report.page import write_report

    begun = work.begin()
    if bool(remove) == bool(budget):
        raise BadInput("prune needs either --remove N or --budget P")
    found = loading.open(model, revision)
    kept = options.parse_layers(protect, found.anatomy.n_layers, "--protect") if protect else ()
    study = Prune(
        remove,
        budget,
        tasks,
        margin,
        needed,
        corpus.chat,
        tuple(kept),
        most,
        repeats=repeats,
        warmup=min(3, repeats),
    )
    study.check(found)  # before a folder is made
    reading = replace(corpus, chat=False).reading()  # --chat is for the prompts of tasks
    folder = out or Path("runs") / f"{Path(model).name}-pruned"
    run = conduct(
        "prune", study, found, reading, folder, **work.said(),
        progress=silent if work.as_json else lines,
    )  # fmt: skip
    page = write_report(run) if report else None
    _tell(run, folder / CHECKPOINT, page, time.perf_counter() - begun, work.as_json)


def _tell(run: Any, checkpoint: Path, page: Path | None, seconds: float, as_json: bool) -> None:  # noqa: ANN401
    found = run["prune"].findings
    if as_json:
        about = found.artefacts["checkpoint"]
        say_json(
            {
                "run": str(run.path), "checkpoint": str(checkpoint), "report": str(page) if page else None,
                "removed": about["removed"], "checks": about["checks"], "notes": list(found.notes), "seconds": seconds,
            }
        )  # fmt: skip
        return
    for line in found.notes:
        typer.echo(line)
    typer.echo(f"done in {seconds:.1f} s", err=True)
    typer.echo(str(checkpoint))
