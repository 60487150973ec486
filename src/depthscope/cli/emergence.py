"""`depthscope emergence`: when grammar appears in a training, from its checkpoints or from one made here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say, say_json
from depthscope.cli.progress import lines
from depthscope.engine.progress import silent

Folder = Annotated[
    Path | None,
    typer.Option(
        help="Folder with a folder for each checkpoint; default: train a small model on the grammar."
    ),
]
Steps = Annotated[int, typer.Option(help="Steps of the small model's training.")]
Checkpoints = Annotated[int, typer.Option(help="Checkpoints that are kept of it, at equal factors.")]
Width = Annotated[int, typer.Option("--d-model", help="Width of the small model.")]
Parses = Annotated[str, typer.Option(help="Parsed sentences: agreement, or a CoNLL-U file.")]
Pairs = Annotated[str, typer.Option(help="Minimal pairs: agreement, or a file like BLiMP's.")]


def command(
    folder: Folder = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/emergence"),
    steps: Steps = 1000,
    checkpoints: Checkpoints = 24,
    d_model: Width = 64,
    parses: Parses = "agreement",
    pairs: Pairs = "agreement",
    sentences: Annotated[int, typer.Option(help="Parsed sentences that are read.")] = 200,
    per_paradigm: Annotated[int, typer.Option(help="Minimal pairs of each paradigm.")] = 100,
    seed: options.Seed = 0,
    data: options.Data = "",
    as_json: options.Json = False,
) -> None:
    """Follow grammar through a training; the same command goes on where it was stopped."""
    from depthscope.engine.reading import Reading
    from depthscope.engine.study import conduct
    from depthscope.fits.agreement_training import AgreementCourse, AgreementTraining
    from depthscope.fits.grammar_emergence import GrammarEmergence, enough
    from depthscope.fits.watch import Watch
    from depthscope.report.page import write_report
    from depthscope.runtime.load import load

    begun = time.perf_counter()
    options.use_data(data)
    progress = silent if as_json else lines
    if folder is None:
        course = AgreementCourse(steps=steps, checkpoints=checkpoints)
        enough(course.saved(), f"a training of --steps {steps} with --checkpoints {checkpoints}")
        made = AgreementTraining(d_model=d_model, course=course, seed=seed).run(
            out / "training", watch=Watch(progress)
        )
        folder = made
    study = GrammarEmergence(str(folder), parses, pairs, sentences, per_paradigm)
    model = load(study.saved()[-1].where, dtype="float32")
    texts = [" ".join(["text"] * 64)] * 8
    reading = Reading(texts, tokens=256, window=32)
    run = conduct(
        "grammar_emergence",
        study,
        model,
        reading,
        out / "run",
        seed=seed,
        progress=progress,
        command=command_line(),
    )
    page, seconds = write_report(run), time.perf_counter() - begun
    if as_json:
        say_json({"run": str(run.path), "report": str(page), "seconds": seconds})
        return
    for note in run["grammar_emergence"].findings.notes:
        say(note)
    typer.echo(str(page))
