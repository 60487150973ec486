"""`depthscope similarity MODEL [OTHER]`: how alike the states of two models are over the same texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import say_json, say_table
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent
from depthscope.errors import BadInput

POOLINGS = "mean,mean_no_first,mean_no_massive"

Other = Annotated[
    str, typer.Argument(help="The model that is compared with; default: MODEL with random weights.")
]
Text = Annotated[str, typer.Option(help="File or folder of texts; default: the packaged sample.")]
Texts = Annotated[int, typer.Option(help="Passages that both models read.")]
Words = Annotated[int, typer.Option(help="Words of each.")]
Poolings = Annotated[str, typer.Option(help="Vectors that are compared, with commas.")]
Neighbours = Annotated[int, typer.Option(help="Nearest texts that are looked at.")]
OtherRevision = Annotated[str | None, typer.Option(help="Hub revision of OTHER: a checkpoint of MODEL, say.")]


def command(
    model: options.Model,
    *,
    other: Other = "",
    text: Text = "",
    texts: Texts = 128,
    words: Words = 32,
    poolings: Poolings = POOLINGS,
    neighbours: Neighbours = 10,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-similarity.")] = None,
    loading: options.Loading,
    revision: options.Revision = None,
    work: options.Work,
    other_revision: OtherRevision = None,
) -> None:
    """Compare the states of two models over the same texts; the same command goes on where it was stopped."""
    if other_revision and not other:
        raise BadInput(f"--other-revision {other_revision} belongs to OTHER, and no other model is named")
    from depthscope.engine.reading import Reading
    from depthscope.engine.study import conduct
    from depthscope.fits.model_similarity import ModelSimilarity
    from depthscope.materials.data import data_path

    begun = work.begin()
    asked: dict[str, Any] = {
        "source": text, "texts": texts, "words": words, "neighbours": neighbours,
        "poolings": tuple(one.strip() for one in poolings.split(",") if one.strip()),
    }  # fmt: skip
    if not other:
        ModelSimilarity(**asked)
    found = loading.open(model, revision)
    study = ModelSimilarity(**asked, target=loading.open(other, other_revision) if other else None)
    folder = out or Path("runs") / f"{Path(model).name}-similarity"
    reading = Reading(data_path(text) if text else None, tokens=1024, window=64)
    run = conduct(
        "model_similarity",
        study,
        found,
        reading,
        folder,
        progress=silent if work.as_json else bar(),
        **work.said(),
    )
    _said(run, folder, time.perf_counter() - begun, work.as_json)


def _said(run: Any, folder: Path, seconds: float, as_json: bool) -> None:  # noqa: ANN401
    result = run["model_similarity"]
    mode = [str(one) for one in result["same_depth"].axes["mode"]][-1]
    same, late = result["same_depth"].select(mode=mode), result["late_minus_early"].select(mode=mode)
    best = result["best_match"].select(mode=mode).value
    if as_json:
        say_json({
            "run": str(folder), "pooling": mode, "same_depth": same.value.tolist(), "best_match": best.tolist(),
            "late_minus_early": {"value": late.scalar(), "low": float(late.low), "high": float(late.high)},
            "notes": result.findings.notes, "seconds": seconds,
        })  # fmt: skip
        return
    rows = [
        (
            f"{state}",
            f"{same.value[state]:.3f}",
            f"{same.low[state]:.3f}",
            f"{same.high[state]:.3f}",
            f"{match:g}",
        )
        for state, match in enumerate(best)
    ]
    say_table(("state", f"debiased CKA at equal depth ({mode})", "low", "high", "best match"), rows)
    for note in result.findings.notes:
        typer.echo(note, err=True)
    typer.echo(f"compared in {seconds:.1f} s", err=True)
    typer.echo(str(folder))
