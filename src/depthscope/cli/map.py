"""`depthscope map MODEL [OTHER]`: linear maps between the states of two models, or of a model and itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import run as run_verb
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
    model: run_verb.Model,
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
    text: run_verb.TextOption = "",
    tokens: run_verb.Tokens = 8192,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-map.")] = None,
    window: run_verb.Window = 256,
    field: run_verb.Field = "text",
    max_length: run_verb.MaxLength = None,
    bos: run_verb.Bos = "auto",
    chat: run_verb.Chat = False,
    seed: run_verb.Seed = 0,
    dtype: run_verb.Dtype = "auto",
    device: run_verb.Device = None,
    revision: run_verb.Revision = None,
    attn: run_verb.Attention = None,
    trust_remote_code: run_verb.Remote = False,
    force: Annotated[bool, typer.Option(help="Go on although a law is broken.")] = False,
    as_json: run_verb.Json = False,
) -> None:
    """Predict every state of one model linearly from every state of another; the same command resumes a stopped run."""
    if other and control:
        raise BadInput(f"OTHER={other} and --control {control} both say what is predicted; give one of them")
    from depthscope.engine.reading import Reading
    from depthscope.engine.study import conduct
    from depthscope.fits.linear_maps import GRID, LinearMaps
    from depthscope.runtime.load import load

    how: dict[str, Any] = {
        "dtype": None if dtype == "auto" else dtype, "device": device, "attn_implementation": attn,
        "trust_remote_code": trust_remote_code,
    }  # fmt: skip
    begun = time.perf_counter()
    asked: dict[str, Any] = {
        "other": control or "itself", "sources": _whole("--sources", sources), "targets": _whole("--targets", targets),
        "differences": differences, "rows": rows, "width": width, "ridge": _parts("--ridge", ridge, float) or GRID,
        "held_out": held_out, "memory": int(memory * GIB),
    }  # fmt: skip
    if not other:
        LinearMaps(**asked)
    found = load(model, revision=revision, **how)
    study = LinearMaps(**asked, target=load(other, **how) if other else None)
    reading = Reading(text or None, field, tokens, window, bos, max_length, chat)  # pyright: ignore[reportArgumentType]
    folder = out or Path("runs") / f"{Path(model).name}-map"
    said: dict[str, Any] = {"seed": seed, "force": force, "command": run_verb._command()}  # pyright: ignore[reportPrivateUsage]
    run = conduct("linear_maps", study, found, reading, folder, **said, **({} if as_json else _watched()))
    _said(run, folder, time.perf_counter() - begun, as_json)


def _whole(flag: str, text: str) -> tuple[int, ...]:
    return _parts(flag, text, int)


def _parts(flag: str, text: str, kind: Any) -> tuple[Any, ...]:  # noqa: ANN401
    try:
        return tuple(kind(piece) for piece in text.split(",") if piece.strip())
    except ValueError as error:
        raise BadInput(f"{flag} {text!r} holds something that is no number; write it as 1,2,3") from error


def _watched() -> dict[str, Any]:
    bar = run_verb._progress()  # pyright: ignore[reportPrivateUsage]
    return {} if bar is None else {"progress": bar}


def _said(run: Any, folder: Path, seconds: float, as_json: bool) -> None:  # noqa: ANN401
    from depthscope.cli.output import say_json, say_table
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
