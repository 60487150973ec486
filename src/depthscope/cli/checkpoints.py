"""`depthscope checkpoints`: the same analyses on every checkpoint of a training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import say, say_json
from depthscope.cli.progress import lines
from depthscope.engine.progress import silent
from depthscope.errors import BadInput

if TYPE_CHECKING:
    from depthscope.engine.saved import Saved

Model = Annotated[str, typer.Argument(help="Hub id of the model; with --revisions.")]
Revisions = Annotated[
    str, typer.Option(help="Revisions of MODEL with commas; the step is in the name, or as main=143000.")
]
Folder = Annotated[
    Path | None,
    typer.Option(help="Folder with a folder for each checkpoint, as step-1000; in place of MODEL."),
]
Analyses = Annotated[
    str, typer.Option(help="Names with commas; default: corpus_statistics,logit_lens,representation_profile.")
]


def command(
    *,
    model: Model = "",
    revisions: Revisions = "",
    folder: Folder = None,
    analyses: Analyses = "",
    settings: options.Set = None,
    corpus: options.Corpus,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-checkpoints.")] = None,
    loading: options.Loading,
    work: options.Work,
    report: options.Report = True,
) -> None:
    """Audit every checkpoint of a training; finished ones are not done again."""
    from depthscope.cli.run import chosen
    from depthscope.engine.checkpoints import DEFAULT, Opening, follow
    from depthscope.report.page import write_report

    begun = work.begin()
    saved = _saved(model, revisions, folder)
    asked = chosen(analyses or ",".join(DEFAULT), settings or [])
    run = follow(
        saved, asked, out=out or Path("runs") / f"{Path(str(folder or model)).name}-checkpoints",
        reading=corpus.reading(),
        opening=Opening(
            None if loading.dtype == "auto" else loading.dtype, loading.device, loading.attn, loading.trust_remote_code
        ),
        progress=silent if work.as_json else lines, **work.said(),
    )  # fmt: skip
    page = write_report(run) if report else None
    seconds = time.perf_counter() - begun
    if work.as_json:
        steps = [one.step for one in saved]
        say_json({"run": str(run.path), "report": page and str(page), "steps": steps, "seconds": seconds})
        return
    say(f"audited {len(saved)} checkpoints in {seconds:.1f} s")
    typer.echo(str(page or run.path))


def _saved(model: str, revisions: str, folder: Path | None) -> tuple[Saved, ...]:
    """The checkpoints that the arguments name.

    Raises:
        BadInput: unless just one of MODEL with --revisions and --folder is given.
    """
    from depthscope.engine.saved import in_folder, on_hub

    if (folder is None) == (not model) or bool(model) != bool(revisions):
        raise BadInput(
            "give a model with its revisions, as MODEL --revisions step1,step1000, or --folder DIR"
        )
    return in_folder(folder) if folder is not None else on_hub(model, revisions.split(","))
