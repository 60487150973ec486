"""`depthscope map MODEL [OTHER]`: linear maps between the states of two models, or of a model and itself."""

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

GIB = 2**30

Other = Annotated[str, typer.Argument(help="The model whose states are predicted; default: the same model.")]
Control = Annotated[str, typer.Option(help="Instead of OTHER: itself, stretched or untrained.")]
Differences = Annotated[bool, typer.Option("--differences", help="Map what layers add, not states.")]
Sources = Annotated[str, typer.Option(help="States (layers) that are mapped from: 0,5,10; default: all.")]
Targets = Annotated[str, typer.Option(help="States (layers) that are mapped onto; default: all.")]
Width = Annotated[int, typer.Option(help="Random directions of wider targets that are predicted; 0: all.")]
Rows = Annotated[str, typer.Option(help="raw, or rms: every row divided by its root mean square.")]
Ridge = Annotated[str, typer.Option(help="Multiples of the mean diagonal to choose from, with commas.")]
HeldOut = Annotated[
    float, typer.Option(help="Share of documents to judge on, and as much again to choose by.")
]
Memory = Annotated[
    float, typer.Option(help="GiB of sums held at a time; the text is read again for the rest.")
]


def command(
    model: options.Model,
    *,
    other: Other = "",
    control: Control = "",
    differences: Differences = False,
    sources: Sources = "",
    targets: Targets = "",
    width: Width = 512,
    rows: Rows = "raw",
    ridge: Ridge = "",
    held_out: HeldOut = 0.15,
    memory: Memory = 1.0,
    corpus: options.Corpus,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-map.")] = None,
    loading: options.Loading,
    revision: options.Revision = None,
    work: options.Work,
) -> None:
    """Predict every state of one model linearly from every state of another; the same command resumes a stopped run."""
    if other and control:
        raise BadInput(f"OTHER={other} and --control {control} both say what is predicted; give one of them")
    from depthscope.engine.study import conduct
    from depthscope.fits.linear_maps import GRID, LinearMaps

    begun = work.begin()
    asked: dict[str, Any] = {
        "other": control or "itself", "sources": options.numbers("--sources", sources, int),
        "targets": options.numbers("--targets", targets, int),
        "differences": differences, "rows": rows, "width": width, "ridge": options.numbers("--ridge", ridge) or GRID,
        "held_out": held_out, "memory": int(memory * GIB),
    }  # fmt: skip
    if not other:
        LinearMaps(**asked)
    found = loading.open(model, revision)
    study = LinearMaps(**asked, target=loading.open(other) if other else None)
    folder = out or Path("runs") / f"{Path(model).name}-map"
    run = conduct(
        "linear_maps",
        study,
        found,
        corpus.reading(),
        folder,
        progress=silent if work.as_json else bar(),
        **work.said(),
    )
    _said(run, folder, time.perf_counter() - begun, work.as_json)


def _said(run: Any, folder: Path, seconds: float, as_json: bool) -> None:  # noqa: ANN401
    from depthscope.fits.map_diagonal import DIAGONAL

    result = run["linear_maps"]
    found = result.findings.measurements
    scalars = {name: found[name] for name in (*DIAGONAL, "neighbour_share") if name in found}
    if as_json:
        values = {
            name: {"value": m.scalar(), "low": float(m.low), "high": float(m.high)}
            for name, m in scalars.items()
        }
        best = {"best_source": found["best_source"].value.tolist()}
        say_json(
            {
                "run": str(folder),
                "diagonal": values,
                **best,
                "notes": result.findings.notes,
                "seconds": seconds,
            }
        )
        return
    rows = [
        (name, *(f"{float(part):.3g}" for part in (m.value, m.low, m.high))) for name, m in scalars.items()
    ]
    say_table(("measurement", "value", "low", "high"), rows)
    for note in result.findings.notes:
        typer.echo(note, err=True)
    typer.echo(f"mapped in {seconds:.1f} s", err=True)
    typer.echo(str(folder))
