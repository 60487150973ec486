"""`depthscope steer MODEL --predictor DIR`: texts under changed parts of their states, and what the changes do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import say, say_json, say_table
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent

Predictor = Annotated[Path | None, typer.Option(help="Folder that `depthscope fit predictor` left.")]
Text = Annotated[
    str,
    typer.Option(help="JSON lines with `text` and a label; default: the packaged sample and its registers."),
]
Label = Annotated[str, typer.Option(help="Key of the label; default: domain, label_name, label or register.")]
PerLabel = Annotated[int, typer.Option(help="Documents of a label at most.")]
Reserve = Annotated[
    float, typer.Option(help="Share of documents that predictors were not trained on; 0 takes all of them.")
]
Layers = Annotated[
    str, typer.Option(help="Layers whose states are steered: 0,7,14; default: all with a predictor.")
]
At = Annotated[
    int, typer.Option(help="Layer that written text is steered at; -1: the middle one with a predictor.")
]
Levels = Annotated[str, typer.Option(help="Parts are scaled by 1 plus each of these, with commas.")]
Strengths = Annotated[str, typer.Option(help="Lengths of vectors in mean lengths of a state, with commas.")]
Strength = Annotated[float, typer.Option(help="The same for written text.")]
Pairs = Annotated[int, typer.Option(help="Pairs of texts of two domains.")]
Prompt = Annotated[int, typer.Option(help="Tokens of a text that are read before it is continued.")]
New = Annotated[int, typer.Option(help="Tokens that are written; 0: nothing is written.")]
Temperature = Annotated[float, typer.Option(help="Of the writing; 0: the most probable token.")]
First = Annotated[int, typer.Option(help="Positions at the start that are left as they are.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-steered.")]
PRECISE = options.Loading(dtype="float32")
SHOWN = ("plain", "swap_predictable", "swap_novel", "swap_random", "other")


def command(
    model: options.Model,
    *,
    predictor: Predictor = None,
    text: Text = "",
    label: Label = "",
    per_label: PerLabel = 60,
    window: options.Window = 96,
    reserve: Reserve = 0.3,
    layers: Layers = "",
    at: At = -1,
    levels: Levels = "-1,-0.5,0.5,1",
    strengths: Strengths = "0.1,0.3,1",
    strength: Strength = 0.3,
    pairs: Pairs = 24,
    prompt: Prompt = 48,
    new: New = 32,
    temperature: Temperature = 0.7,
    first: First = 4,
    out: Out = None,
    loading: options.Loading = PRECISE,
    revision: options.Revision = None,
    work: options.Work,
    report: options.Report = True,
) -> None:
    """Change the predictable or novel part of states and see what is said; the same command resumes a stopped run."""
    from depthscope.engine.study import conduct
    from depthscope.fits.component_steering import ComponentSteering, LabelledReading

    begun = work.begin()
    study = ComponentSteering(
        str(predictor or ""), text, label, per_label, window, reserve, options.numbers("--layers", layers, int), at,
        options.numbers("--levels", levels), options.numbers("--strengths", strengths), pairs, prompt, new, strength,
        temperature, first=first,
    )  # fmt: skip
    study.depends()
    found = loading.open(model, revision)
    folder = out or Path("runs") / f"{Path(model).name}-steered"
    run = conduct(
        "component_steering", study, found, LabelledReading(study.material, work.seed), folder,
        progress=silent if work.as_json else bar(), **work.said(),
    )  # fmt: skip
    page = _reported(run) if report else None
    _told(run, folder, page, time.perf_counter() - begun, work.as_json)


def _reported(run: Any) -> Path:  # noqa: ANN401
    from depthscope.report.page import write_report

    return write_report(run)


def _told(run: Any, folder: Path, page: Path | None, seconds: float, as_json: bool) -> None:  # noqa: ANN401
    found = run["component_steering"].findings
    rows = list(_effects(found.measurements))
    texts = {
        str(v): _cell(found.measurements["written_towards_other"], variant=str(v))
        for v in (SHOWN if "written_towards_other" in found.measurements else ())
    }
    if as_json:
        say_json({
            "run": str(folder), "report": str(page) if page else None, "effects": rows, "towards_other": texts,
            "notes": found.notes, "seconds": seconds,
        })  # fmt: skip
        return
    heads = ("layer", "change", "KL", "gain of A's words", "top-1 kept")
    say_table(heads, [tuple(row.values()) for row in rows])
    if texts:
        say_table(("text", "judged to be of the domain of A rather than B"), list(texts.items()))
    for note in found.notes:
        say(note)
    say(f"steered in {seconds:.1f} s")
    typer.echo(str(page or folder))


def _effects(found: Any) -> Any:  # noqa: ANN401
    for layer in found["swap_kl"].axes["layer"]:
        for variant in ("predictable", "novel", "random"):
            at = {"layer": int(layer), "variant": variant}
            yield {
                "layer": str(layer), "change": f"swap {variant}",
                **{name: _cell(found[f"swap_{name}"], **at) for name in ("kl", "gain", "same_own")},
            }  # fmt: skip


def _cell(measurement: Any, **at: Any) -> str:  # noqa: ANN401
    cell = measurement.select(**at)
    return f"{cell.scalar():.3f} [{float(cell.low):.3f}, {float(cell.high):.3f}]"
