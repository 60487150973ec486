"""`depthscope steer MODEL --predictor DIR`: texts under changed parts of their states, and what the changes do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options, steer_function
from depthscope.cli.output import say, say_json, say_table
from depthscope.cli.progress import lines
from depthscope.engine.progress import silent

SHOWN = ("plain", "swap_predictable", "swap_novel", "swap_random", "other")

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
Fitted = Annotated[int, typer.Option(help="Documents of a label that means and vectors are taken over.")]
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


@dataclass(frozen=True)
class Texts:
    """Which texts are steered."""

    text: Text = ""
    label: Label = ""
    per_label: PerLabel = 60
    window: options.Window = 96
    reserve: Reserve = 0.3
    fitted: Fitted = 20
    pairs: Pairs = 24
    first: First = 4

    def parameters(self) -> dict[str, Any]:
        """As the study calls them."""
        found = asdict(self)
        return {"source": found.pop("text"), **found}


@dataclass(frozen=True)
class Changes:
    """What is changed, and where."""

    layers: Layers = ""
    levels: Levels = "-1,-0.5,0.5,1"
    strengths: Strengths = "0.1,0.3,1"

    def parameters(self) -> dict[str, Any]:
        """As the study calls them."""
        return {
            "layers": options.numbers("--layers", self.layers, int),
            "levels": options.numbers("--levels", self.levels),
            "strengths": options.numbers("--strengths", self.strengths),
        }


@dataclass(frozen=True)
class Writing:
    """What is written, and how."""

    at: At = -1
    prompt: Prompt = 48
    new: New = 32
    strength: Strength = 0.3
    temperature: Temperature = 0.7


def command(
    model: options.Model,
    *,
    predictor: Predictor = None,
    function: steer_function.Given = "",
    say_: steer_function.Say = None,
    scale: steer_function.Scale = 1.0,
    save: steer_function.Save = None,
    texts: Texts,
    changes: Changes,
    writing: Writing,
    out: Out = None,
    loading: options.Loading,
    revision: options.Revision = None,
    report: options.Report = True,
    work: options.Work,
) -> None:
    """Change the predictable or novel part of states and see what is said; the same command resumes a stopped run."""
    from depthscope.engine.study import conduct
    from depthscope.fits.component_steering import ComponentSteering, LabelledReading

    if function:
        steer_function.continued(
            model, function, say_ or [], writing.new, scale, save, loading, revision, work
        )
        return
    begun = work.begin()
    study = ComponentSteering(
        predictor=str(predictor or ""), **texts.parameters(), **changes.parameters(), **asdict(writing)
    )
    study.depends()
    run = conduct(
        "component_steering", study, loading.open(model, revision), LabelledReading(study.material, work.seed),
        out or Path("runs") / f"{Path(model).name}-steered", progress=silent if work.as_json else lines, **work.said(),
    )  # fmt: skip
    page = None
    if report:
        from depthscope.report.page import write_report

        page = write_report(run)
    _told(run, page, time.perf_counter() - begun, work.as_json)


def _told(run: Any, page: Path | None, seconds: float, as_json: bool) -> None:  # noqa: ANN401
    found = run["component_steering"].findings
    rows = list(_effects(found.measurements))
    leaning = {
        variant: _cell(found.measurements["written_towards_other"], variant=variant)
        for variant in (SHOWN if "written_towards_other" in found.measurements else ())
    }
    if as_json:
        say_json({
            "run": str(run.path), "report": str(page) if page else None, "effects": rows, "towards_other": leaning,
            "notes": found.notes, "seconds": seconds,
        })  # fmt: skip
        return
    heads = ("layer", "change", "KL", "gain of A's words", "top-1 kept")
    say_table(heads, [tuple(row.values()) for row in rows])
    if leaning:
        say_table(("text", "judged to be of the domain of A rather than B"), list(leaning.items()))
    for note in found.notes:
        say(note)
    say(f"steered in {seconds:.1f} s")
    typer.echo(str(page or run.path))


def _effects(found: Any) -> Iterator[dict[str, str]]:  # noqa: ANN401
    for layer in found["swap_kl"].axes["layer"]:
        for variant in ("predictable", "novel", "random"):
            at = {"layer": int(layer), "variant": variant}
            cells = {name: _cell(found[f"swap_{name}"], **at) for name in ("kl", "gain", "same_own")}
            yield {"layer": str(layer), "change": f"swap {variant}", **cells}


def _cell(measurement: Any, **at: Any) -> str:  # noqa: ANN401
    cell = measurement.select(**at)
    if cell.low is None or cell.high is None:
        return f"{cell.scalar():.3f}"
    return f"{cell.scalar():.3f} [{float(cell.low):.3f}, {float(cell.high):.3f}]"
