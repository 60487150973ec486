"""`depthscope gates`: which key-value heads must keep all of their keys, and which may stream."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import say, say_json, say_table
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent

if TYPE_CHECKING:
    from depthscope.results.result import Result

LONG = options.Corpus(tokens=16384, window=512)
NAMED = 12
"""Heads that are named, those with the largest gates."""

Steps = Annotated[int, typer.Option(help="Steps of the training; 0 measures the sensitivity only.")]
Weight = Annotated[float | None, typer.Option(help="Of the mean gate in the loss; default: balanced.")]
Passkeys = Annotated[int, typer.Option(help="Lists of words that are hidden in each text.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-gates.")]


def command(
    model: options.Model,
    *,
    steps: Steps = 150,
    lr: Annotated[float, typer.Option(help="The highest rate of Adam.")] = 0.05,
    weight: Weight = None,
    passkeys: Passkeys = 3,
    words: Annotated[int, typer.Option(help="Words of each list.")] = 8,
    start: Annotated[int, typer.Option(help="First keys that a streaming head keeps.")] = 4,
    recent: Annotated[int, typer.Option(help="Last keys that a streaming head keeps.")] = 64,
    out: Out = None,
    corpus: options.Corpus = LONG,
    loading: options.Loading,
    work: options.Work,
) -> None:
    """Train the gates and write the report; the same command resumes one that was stopped."""
    from depthscope.engine.study import conduct
    from depthscope.fits.duo_gates import TABLE, DuoGates
    from depthscope.report.page import write_report

    begun = work.begin()
    study = DuoGates(steps, lr, weight, passkeys, words, start, recent)
    found = loading.open(model)
    folder = out or Path("runs") / f"{Path(model).name}-gates"
    progress = silent if work.as_json else bar()
    run = conduct("duo_gates", study, found, corpus.reading(), folder, progress=progress, **work.said())
    page, result, seconds = write_report(run), run["duo_gates"], time.perf_counter() - begun
    _tell(result, {"run": str(folder), "report": str(page)}, folder / TABLE, seconds, work.as_json)


def _tell(result: Result, places: dict[str, Any], table: Path, seconds: float, as_json: bool) -> None:
    there = result.findings.measurements
    shares = {name: there[name].scalar() for name in ("share_full", "agreement") if name in there}
    score = "gate" if "gate" in there else "sensitivity"
    largest = [(f"L{layer}H{head}", x) for layer, head, x in _largest(there[score].value)]
    if as_json:
        if table.exists():
            places["table"] = str(table)
        say_json({**places, **shares, "heads": dict(largest), "seconds": seconds})
        return
    say_table(("head", score), [(head, f"{x:.3g}") for head, x in largest])
    for name, share in shares.items():
        say(f"{name}: {share:.3f}")
    say(f"finished in {seconds:.1f} s")
    typer.echo(places["report"])


def _largest(value: Any) -> list[tuple[int, int, float]]:  # noqa: ANN401  (an array)
    """Layer, head and number of the NAMED heads with the largest number; of equal ones the first."""
    import numpy as np

    order = np.argsort(-np.nan_to_num(value, nan=-np.inf), axis=None, kind="stable")[:NAMED]
    cells = [tuple(int(k) for k in np.unravel_index(place, value.shape)) for place in order]
    return [(a, b, float(value[a, b])) for a, b in cells if np.isfinite(value[a, b])]
