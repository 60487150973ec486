"""`depthscope run MODEL`: an audit from the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import hush, say, say_json
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent
from depthscope.errors import BadInput, Refused

if TYPE_CHECKING:
    from depthscope.anatomy.anatomy import Anatomy
    from depthscope.engine.needs import Analysis


def command(
    model: options.Model,
    *,
    analyses: options.Analyses = "",
    corpus: options.Corpus,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL.")] = None,
    layers: options.Layers = "",
    settings: options.Set = None,
    loading: options.Loading,
    device_map: Annotated[str | None, typer.Option(help="Passed to transformers: auto, balanced ...")] = None,
    revision: options.Revision = None,
    lens: options.Lens = "logit",
    predictor: Annotated[
        str,
        typer.Option(help="Folder that `depthscope fit predictor` left, for analyses that read predictors."),
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    null: Annotated[
        str, typer.Option(help="Nulls to run beside it: untrained, shuffled, or both with a comma.")
    ] = "",
    work: options.Work,
    report: options.Report = True,
) -> None:
    """Audit a model over a text; the same command resumes a run that was stopped."""
    from depthscope.engine.audit import audit
    from depthscope.report.page import write_report

    begun = work.begin()
    tell = hush if work.as_json else say
    nulls = _nulls(null)
    found = loading.open(model, revision, device_map)
    loaded = time.perf_counter() - begun
    tell(f"loaded {found.name}: {found.anatomy.n_layers} layers, {found.dtype}, {loaded:.1f} s")
    folder = out or Path("runs") / Path(model).name
    asked = selected(analyses, [*(settings or []), *_predicted(analyses, predictor)], layers, found.anatomy)
    how: dict[str, Any] = {
        **corpus.arguments(), **work.said(), "workers": workers, "lens": lens,
    }  # fmt: skip
    run = audit(found, asked, out=folder, progress=silent if work.as_json else bar(), **how)
    nulled: dict[str, Any] = {**how, "force": True}
    for kind in nulls:
        tell(f"null: {kind}")
        other = _untrained(found, work.seed) if kind == "untrained" else found
        shuffled = "shuffled" if kind == "shuffled" else None
        audit(
            other,
            asked,
            out=folder / "nulls" / kind,
            null=shuffled,
            **nulled,
        )
    page = write_report(run) if report else None
    seconds = time.perf_counter() - begun - loaded
    if work.as_json:
        _say_json(run, page, loaded, seconds)
        return
    for name, reason in run.manifest.get("refused", {}).items():
        tell(f"left out {name}: {reason}")
    tell(f"audited in {seconds:.1f} s (model loaded in {loaded:.1f} s before)")
    typer.echo(str(page or folder))


def selected(
    analyses: str, settings: list[str], layers: str, anatomy: Anatomy
) -> list[str | Analysis] | None:
    """Analyses by name with the parameters given as NAME.PARAMETER=VALUE; None for the default list without any.

    A default list with parameters leaves out what the model refuses, as the plain default list does.

    Raises:
        BadInput: for a setting that is not of that form or names no parameter.
    """
    from depthscope.engine.choice import FIRST

    changes = _changes(settings)
    if layers:
        changes.setdefault("layer_skip", {})["layers"] = options.parse_layers(layers, anatomy.n_layers)
    found = _with(_names(analyses) or (list(FIRST) if changes else []), changes)
    return found if analyses else [one for one in found if _answers(one, anatomy)] or None


def chosen(analyses: str, settings: list[str]) -> list[str | Analysis]:
    """Analyses by name with the parameters given as NAME.PARAMETER=VALUE, for no model in particular.

    Raises:
        BadInput: for a setting that is not of that form or names no parameter.
    """
    return _with(_names(analyses), _changes(settings))


def _predicted(analyses: str, predictor: str) -> list[str]:
    """The folder of predictors as a setting of every named analysis that reads them.

    Raises:
        BadInput: when there is none among them.
    """
    from dataclasses import fields

    from depthscope.registry import ANALYSES

    if not predictor:
        return []
    readers = [n for n in _names(analyses) if "predictor" in {f.name for f in fields(ANALYSES[n])}]
    if not readers:
        raise BadInput(
            f"--predictor {predictor}: none of the analyses reads predictors; name one, such as --analyses "
            "predictability"
        )
    return [f"{name}.predictor={predictor}" for name in readers]


def _names(analyses: str) -> list[str]:
    return [n.strip() for n in analyses.split(",") if n.strip()]


def _with(names: list[str], changes: dict[str, dict[str, Any]]) -> list[str | Analysis]:
    from depthscope.registry import ANALYSES

    unused = set(changes) - set(names)
    if unused:
        raise BadInput(f"--set or --layers speaks of {', '.join(sorted(unused))}, which this run does not do")
    return [ANALYSES[name](**changes[name]) if name in changes else name for name in names]


def _answers(analysis: str | Analysis, anatomy: Anatomy) -> bool:
    from depthscope.registry import ANALYSES

    try:
        (ANALYSES[analysis]() if isinstance(analysis, str) else analysis).needs(anatomy)
    except Refused:
        return False
    return True


def _changes(settings: list[str]) -> dict[str, dict[str, Any]]:
    from dataclasses import fields

    from depthscope.registry import ANALYSES

    changes: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, dot, rest = setting.partition(".")
        parameter, equals, value = rest.partition("=")
        if not (dot and equals):
            raise BadInput(f"--set {setting!r} is not of the form ANALYSIS.PARAMETER=VALUE")
        known = {f.name: f for f in fields(ANALYSES[name])}
        if parameter not in known:
            raise BadInput(f"--set {setting!r}: {name} has the parameters {', '.join(known) or 'none'}")
        field = known[parameter]
        changes.setdefault(name, {})[parameter] = _typed(value, field.default, setting, str(field.type))
    return changes


def _typed(value: str, default: object, setting: str, annotation: str = "") -> object:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, tuple):
            kind = type(default[0]) if default else str if "str" in annotation else _number
            return tuple(kind(piece.strip()) for piece in value.split(",") if piece.strip())
        return float(value) if isinstance(default, float) else value
    except (ValueError, KeyError) as error:
        raise BadInput(f"--set {setting!r}: {value!r} does not fit, the default is {default!r}") from error


def _number(piece: str) -> int | float:
    """A whole number where it is written as one."""
    return int(piece) if piece.strip("+-").isdigit() else float(piece)


def _nulls(null: str) -> list[str]:
    kinds = [k.strip() for k in null.split(",") if k.strip()]
    wrong = [k for k in kinds if k not in ("untrained", "shuffled")]
    if wrong:
        raise BadInput(
            f"--null {null!r}: {wrong} is unknown; it is untrained, shuffled, or both with a comma"
        )
    return kinds


def _untrained(model: Any, seed: int) -> Any:  # noqa: ANN401  (torch is not imported at the top)
    from depthscope.runtime.tiny import untrained

    return untrained(model, seed)


def _say_json(run: Any, page: Path | None, loaded: float, seconds: float) -> None:  # noqa: ANN401
    manifest = run.manifest
    say_json({
        "run": str(run.path), "report": None if page is None else str(page), "analyses": list(run),
        "refused": manifest.get("refused", {}),
        "seconds": {"load": loaded, "audit": seconds, **manifest.get("timings", {})},
    })  # fmt: skip
