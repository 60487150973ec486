"""`depthscope fit predictor MODEL`: predictors of the next position's state, into a run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say_json, say_table
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent
from depthscope.errors import UnknownName

if TYPE_CHECKING:
    from depthscope.engine.reading import Reading
    from depthscope.runtime.model import Model

SHARED = ("preset", "steps", "lr", "check")
"""Flags of a tuned lens that a predictor has too."""
MOST = 2**22
"""Tokens that are cut at most by default; a longer training reads them again."""
SHOWN = ("predictor", "mean", "copy", "ridge", "ridge_2", "token")


@dataclass(frozen=True)
class Predicting:
    """Options that only a predictor has."""

    layers: Annotated[
        str,
        typer.Option(
            help="Predictor: blocks whose outputs are predicted: 0,7,-1; default: five over the depth."
        ),
    ] = ""
    rows: Annotated[int | None, typer.Option(help="Predictor: windows a step; default: 32.")] = None
    minutes: Annotated[
        float | None, typer.Option(help="Predictor: training also ends after so many minutes.")
    ] = None
    save: Annotated[int | None, typer.Option(help="Predictor: steps between checkpoints; default: 100.")] = (
        None
    )
    closed: Annotated[
        int | None, typer.Option(help="Predictor: tokens for guesses in closed form; default: 65536.")
    ] = None
    judge: Annotated[
        str, typer.Option(help="Predictor: another text to judge on, not held-out documents.")
    ] = ""
    reserve: Annotated[
        float | None, typer.Option(help="Predictor: share of documents kept for probes; default: 0.3.")
    ] = None
    variance: Annotated[bool, typer.Option(help="Predictor: with a variance, novelty in nats.")] = False
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Predictor: a field of its design or course: heads=8, clip=0.5. Repeatable."
        ),
    ] = None

    def given(self) -> tuple[str, ...]:
        """Flags that were set."""
        names = [f.name for f in fields(self) if getattr(self, f.name) not in (None, "", False)]
        return tuple("--set" if name == "settings" else f"--{name}" for name in names)

    def blocks(self, n_layers: int) -> tuple[int, ...]:
        """Numbers of the blocks; none where none were given."""
        return options.parse_layers(self.layers, n_layers) if self.layers else ()

    def reading(self, corpus: options.Corpus, tokens: int) -> Reading:
        """What is read: the corpus, or as many tokens of it, without the documents that are kept for probes."""
        read = replace(corpus, tokens=corpus.tokens or tokens).reading()
        return replace(read, reserve=0.3 if self.reserve is None else self.reserve)


def trained(
    asked: Predicting,
    shared: Mapping[str, Any],
    corpus: options.Corpus,
    judging: Mapping[str, Any],
    model: Model,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train, judge and say R2 by layer; the same command resumes one that was stopped.

    Args:
        shared: flags of SHARED that were given. corpus: its tokens are 0 for as many as the steps read, MOST at most.
        judging: seed, held_out, and evaluate where it was given.

    Raises:
        BadInput, UnknownName: for settings that do not exist; what the study raises.
    """
    from depthscope.engine.reading import Reading
    from depthscope.engine.study import conduct
    from depthscope.fits.predictor import PredictorFit

    begun = time.perf_counter()
    design, course = _settings(asked.settings or [])
    named = {"steps": shared.get("steps"), "lr": shared.get("lr"), "check": shared.get("check")}
    named |= {"rows": asked.rows, "minutes": asked.minutes, "save": asked.save}
    course |= {name: value for name, value in named.items() if value is not None}
    design |= {"variance": True} if asked.variance else {}
    rest = {name: judging[name] for name in ("held_out", "evaluate") if judging.get(name) is not None}
    rest |= {"closed": asked.closed} if asked.closed else {}
    evaluate = int(rest.get("evaluate", PredictorFit.evaluate))
    other = Reading(asked.judge, corpus.field, 4 * evaluate, corpus.window) if asked.judge else None
    study = PredictorFit(
        asked.blocks(model.anatomy.n_layers),
        shared.get("preset") or "robust",
        design,
        course,
        judge=other,
        **rest,
    )
    lesson = study.lesson
    reading = asked.reading(corpus, min(MOST, 2 * lesson.steps * lesson.rows * corpus.window))
    folder = out or Path("runs") / f"{Path(model.name).name}-predictor"
    run = conduct(
        "predictor", study, model, reading, folder, seed=judging["seed"], progress=silent if as_json else bar(),
        command=command_line(),
    )  # fmt: skip
    _say(run["predictor"], folder, time.perf_counter() - begun, as_json)


def _settings(given: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the design and of the course, from NAME=VALUE; each value is read as its field's default is.

    Raises:
        BadInput: for anything that is no NAME=VALUE, or a value that cannot be read. UnknownName: for no such field.
    """
    from depthscope.fits.predictor_course import Course
    from depthscope.runtime.predictor import Design

    places = {f.name: (k, f.default) for k, kind in enumerate((Design, Course)) for f in fields(kind)}
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for text in given:
        name, value = options.assigned(text, "heads=8")
        if name not in places:
            raise UnknownName("field of a predictor", name, places)
        place, default = places[name]
        many = isinstance(default, tuple)
        found[place][name] = (
            options.numbers("--set", value) if many else options.read_as(text, value, type(default))
        )
    return found


def _say(result: Any, folder: Path, seconds: float, as_json: bool) -> None:  # noqa: ANN401  (a Result)
    found = result.findings.measurements["guess_r2"]
    layers = [int(layer) for layer in found.axes["layer"]]
    if as_json:
        r2 = {str(layer): {name: found.at(layer=layer, variant=name) for name in SHOWN} for layer in layers}
        say_json({"run": str(folder), "r2": r2, "notes": result.findings.notes, "seconds": seconds})
        return
    rows = [
        (str(layer), *(f"{found.at(layer=layer, variant=name):.4f}" for name in SHOWN)) for layer in layers
    ]
    say_table(("layer", *(f"R2 {name}" for name in SHOWN)), rows)
    for note in result.findings.notes:
        typer.echo(note, err=True)
    typer.echo(f"trained in {seconds:.1f} s", err=True)
    typer.echo(str(folder))
