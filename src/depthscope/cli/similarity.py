"""`depthscope similarity MODEL [OTHER]`: how alike the states of two models are over the same texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say_json, say_table
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
    other: Other = "",
    text: Text = "",
    texts: Texts = 128,
    words: Words = 32,
    poolings: Poolings = POOLINGS,
    neighbours: Neighbours = 10,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-similarity.")] = None,
    seed: options.Seed = 0,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    revision: options.Revision = None,
    other_revision: OtherRevision = None,
    attn: options.Attention = None,
    trust_remote_code: options.Remote = False,
    data: options.Data = "",
    force: Annotated[bool, typer.Option(help="Go on although a law is broken.")] = False,
    as_json: options.Json = False,
) -> None:
    """Compare the states of two models over the same texts; the same command goes on where it was stopped."""
    if other_revision and not other:
        raise BadInput(f"--other-revision {other_revision} belongs to OTHER, and no other model is named")
    from depthscope.engine.reading import Reading
    from depthscope.engine.study import conduct
    from depthscope.fits.model_similarity import ModelSimilarity
    from depthscope.materials.data import data_path

    begun = time.perf_counter()
    options.use_data(data)
    asked: dict[str, Any] = {
        "source": text, "texts": texts, "words": words, "neighbours": neighbours,
        "poolings": tuple(one.strip() for one in poolings.split(",") if one.strip()),
    }  # fmt: skip
    if not other:
        ModelSimilarity(**asked)
    how: dict[str, Any] = {
        "dtype": dtype,
        "device": device,
        "attn": attn,
        "trust_remote_code": trust_remote_code,
    }
    found = options.loaded(model, revision=revision, **how)
    study = ModelSimilarity(
        **asked, target=options.loaded(other, revision=other_revision, **how) if other else None
    )
    folder = out or Path("runs") / f"{Path(model).name}-similarity"
    reading = Reading(data_path(text) if text else None, tokens=1024, window=64)
    said: dict[str, Any] = {"seed": seed, "force": force, "command": command_line()}
    run = conduct(
        "model_similarity", study, found, reading, folder, progress=silent if as_json else bar(), **said
    )
    _said(run, folder, time.perf_counter() - begun, as_json)


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
