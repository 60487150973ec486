"""`depthscope fit predictor-sweep MODEL`: predictors of many designs on the same tokens, into a run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say_json, say_table
from depthscope.cli.progress import lines
from depthscope.engine.progress import silent
from depthscope.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from depthscope.cli.fit_predictor import Predicting
    from depthscope.runtime.model import Model

SHARED = ("steps", "lr")
"""Flags of a tuned lens that a sweep has too."""
OWN = ("--layers", "--rows", "--reserve", "--set")
"""Flags of a predictor that a sweep has too."""
PLAIN = ("grid", "norm", "residual", "compared", "memory", "probed", "source")
"""Fields of the study that --set reaches besides the factors."""


def swept(
    asked: Predicting,
    shared: Mapping[str, Any],
    corpus: options.Corpus,
    judging: Mapping[str, Any],
    model: Model,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train and compare all designs; the same command goes on with the next design.

    Raises:
        BadInput: for a flag that a sweep does not have, or a setting that cannot be read. UnknownName: for a setting
            that does not exist.
    """
    from depthscope.engine.study import conduct
    from depthscope.fits.predictor_sweep import PredictorSweep

    foreign = [flag for flag in asked.given() if flag not in OWN]
    if foreign:
        raise BadInput(f"{foreign[0]} belongs to predictor; a sweep of designs has none")
    begun = time.perf_counter()
    factors, plain = settings(asked.settings or [])
    named = {
        **shared,
        "rows": asked.rows,
        "held_out": judging["held_out"],
        "evaluate": judging.get("evaluate"),
    }
    given: dict[str, Any] = plain | {name: value for name, value in named.items() if value is not None}
    study = PredictorSweep(asked.blocks(model.anatomy.n_layers), factors, **given)
    reading = asked.reading(corpus, 2 * study.steps * study.rows * corpus.window)
    folder = out or Path("runs") / f"{Path(model.name).name}-predictor-sweep"
    run = conduct(
        "predictor_sweep", study, model, reading, folder, seed=judging["seed"], progress=silent if as_json else _told,
        command=command_line(),
    )  # fmt: skip
    _say(run["predictor_sweep"], folder, time.perf_counter() - begun, as_json)


def settings(given: Sequence[str]) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    """Factors and fields of the study from NAME=VALUE, such as heads=8,32 or grid=full.

    Raises:
        BadInput: for anything that is no NAME=VALUE, or a value that cannot be read. UnknownName: for no such name.
    """
    from depthscope.fits.predictor_sweep import PredictorSweep
    from depthscope.fits.sweep_designs import Factors

    kinds = {f.name: type(f.default[0]) for f in fields(Factors) if isinstance(f.default, tuple)}
    own = {f.name: type(f.default) for f in fields(PredictorSweep) if f.name in PLAIN}
    factors: dict[str, tuple[Any, ...]] = {}
    plain: dict[str, Any] = {}
    for text in given:
        name, value = options.assigned(text, "heads=8,32")
        if name in kinds:
            factors[name] = tuple(
                options.read_as(text, piece.strip(), kinds[name]) for piece in value.split(",")
            )
        elif name in own:
            plain[name] = options.read_as(text, value, own[name])
        else:
            raise UnknownName("factor of a sweep", name, (*kinds, *own))
    return factors, plain


def _told(phase: str, done: int, total: int) -> None:
    """A line a design; the steps of one training are not told."""
    if phase == "design":
        lines(phase, done, total)


def _say(result: Any, folder: Path, seconds: float, as_json: bool) -> None:  # noqa: ANN401  (a Result)
    found = result.findings.measurements
    layers = [int(layer) for layer in found["r2"].axes["layer"]]
    rows = [
        {
            "design": str(name), "parameters": found["parameters"].select(variant=name).scalar(),
            **{f"R2 at {k}": found["r2"].select(layer=k, variant=name, definition="dim").scalar() for k in layers},
            **{f"agreement at {k}": found["novelty_with_base"].select(layer=k, variant=name).scalar() for k in layers},
        }
        for name in found["r2"].axes["variant"]
    ]  # fmt: skip
    if as_json:
        say_json({"run": str(folder), "designs": rows, "notes": result.findings.notes, "seconds": seconds})
        return
    told = [
        [f"{v:,.0f}" if k == "parameters" else v if k == "design" else f"{v:.4f}" for k, v in row.items()]
        for row in rows
    ]
    say_table(tuple(rows[0]), told)
    for note in result.findings.notes:
        typer.echo(note, err=True)
    typer.echo(f"swept in {seconds:.1f} s", err=True)
    typer.echo(str(folder))
