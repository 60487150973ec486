"""`depthscope exit MODEL`: whether early exits pay, by simulation on given text and in text that the model writes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import say_json
from depthscope.cli.progress import bar, lines
from depthscope.engine.progress import silent

if TYPE_CHECKING:
    from depthscope.store.run import Run

WRITTEN = "written"
"""Folder, inside the run's, of the study on self-written text."""
FALLBACK = (0.5, 0.8, 0.95)
"""Confidences where no calibrated threshold is safe."""

Positions = Annotated[int, typer.Option(help="Positions that are decoded at all states.")]
Targets = Annotated[str, typer.Option(help="Agreements with the whole model, in percent, with commas.")]
Confidence = Annotated[
    str, typer.Option(help="Confidences tried in self-written text; default: the calibrated thresholds.")
]
Floor = Annotated[
    int, typer.Option(help="First state looked at in self-written text; default: half the depth.")
]
Prompts = Annotated[int, typer.Option(help="Documents that the model continues.")]
Length = Annotated[int, typer.Option(help="Tokens of each that are read before.")]
Write = Annotated[int, typer.Option(help="Tokens written after each.")]
Drafts = Annotated[str, typer.Option(help="Layers that draft in self-speculation: 8,15.")]
Allowed = Annotated[float, typer.Option(help="Damage, nats a token, up to which exits may pay.")]


def command(
    model: options.Model,
    *,
    corpus: options.Corpus,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-exit.")] = None,
    lens: options.Lens = "logit",
    positions: Positions = 2048,
    targets: Targets = "90,95,98,99",
    confidence: Confidence = "",
    floor: Floor = 0,
    prompts: Prompts = 8,
    prompt: Length = 32,
    write: Write = 24,
    drafts: Drafts = "",
    allowed: Allowed = 0.1,
    loading: options.Loading,
    revision: options.Revision = None,
    work: options.Work,
    report: Annotated[bool, typer.Option(help="Write report.html at the end, one for each part.")] = True,
) -> None:
    """Calibrate exit policies on a text, then try confidences in self-written text; the same command resumes."""
    from depthscope.advise.exit_price import ExitPrice
    from depthscope.analyses.early_exit import EarlyExit
    from depthscope.engine.audit import audit
    from depthscope.engine.source import lenses_of
    from depthscope.engine.study import conduct
    from depthscope.report.page import write_report

    begun = work.begin()
    simulated = EarlyExit(targets=options.numbers("--targets", targets, int), positions=positions)
    tried = options.numbers("--confidence", confidence)
    layers = options.numbers("--drafts", drafts, int)
    asked: dict[str, Any] = {
        "floor": floor, "prompts": prompts, "prompt": prompt, "tokens": write, "drafts": layers, "allowed": allowed,
    }  # fmt: skip
    price = ExitPrice(tried or FALLBACK, **asked)  # wrong numbers are refused before anything runs
    found = loading.open(model, revision)
    price.must_fit(found)
    folder = out or Path("runs") / f"{Path(model).name}-exit"
    given = audit(
        found, [simulated], out=folder, lens=lens, progress=silent if work.as_json else bar(),
        **corpus.arguments(), **work.said(),
    )  # fmt: skip
    study = ExitPrice(tried or calibrated(given), **asked, through=lenses_of(lens, found)[0])
    own = conduct(
        "exit_price", study, found, corpus.reading(), folder / WRITTEN,
        progress=silent if work.as_json else lines, **work.said(),
    )  # fmt: skip
    pages = [write_report(run) for run in (given, own)] if report else []
    _tell(given, own, pages, time.perf_counter() - begun, work.as_json)


def calibrated(given: Run) -> tuple[float, ...]:
    """The safe thresholds of the policy that goes by the probability of the most likely token, all states looked at."""
    found = given["early_exit"].findings.measurements["threshold"].select(policy="prob", every=1)
    values = sorted({round(float(v), 4) for v in found.value.tolist() if v == v and 0 <= v <= 1})
    return tuple(values) or FALLBACK


def _tell(given: Run, own: Run, pages: list[Path], seconds: float, as_json: bool) -> None:
    notes = (*given["early_exit"].findings.notes, *own["exit_price"].findings.notes)
    if as_json:
        runs = [str(given.path), str(own.path)]
        say_json({"runs": runs, "reports": [str(p) for p in pages], "notes": list(notes), "seconds": seconds})
        return
    for where, run, name in (
        ("On the given text:", given, "early_exit"),
        ("In text that the model writes:", own, "exit_price"),
    ):
        for line in (where, *run[name].findings.notes):
            typer.echo(line)
    typer.echo(f"done in {seconds:.1f} s", err=True)
    for path in pages or [given.path, own.path]:
        typer.echo(str(path))
