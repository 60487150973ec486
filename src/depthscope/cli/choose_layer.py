"""`depthscope choose-layer MODEL --task FILE`: which layer to take vectors from, and an encoder that gives them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import say, say_json
from depthscope.cli.progress import lines
from depthscope.engine.progress import silent
from depthscope.errors import BadInput

Task = Annotated[
    str,
    typer.Option(
        help="JSON lines: text, label; text_a, text_b, score or label; or query, positives, negatives."
    ),
]
Limit = Annotated[int, typer.Option(help="Items read at most; 0 for all.")]
Metric = Annotated[str, typer.Option(help="Score to judge by; default: the main one of the kind of task.")]
Pooling = Annotated[
    str, typer.Option(help="mean, last, first, weighted_mean, mean_no_first, mean_no_massive.")
]
Norm = Annotated[str, typer.Option(help="Final norm: on, off, or auto (on unless off is clearly better).")]
Stride = Annotated[int, typer.Option(help="Distance of the states that are tried first; 1 for every state.")]
Share = Annotated[float, typer.Option(help="Share of the states that may be scored.")]
Export = Annotated[
    Path | None,
    typer.Option(help="Write the choice as a sentence-transformers folder, which must not exist."),
]
Post = Annotated[str, typer.Option(help="Behind pooling: none, center, abtt[-D], pca-D or whiten-D.")]
Unit = Annotated[bool, typer.Option("--unit", help="Exported vectors have length 1.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-TASK.")]


def command(
    model: options.Model,
    *,
    task: Task,
    limit: Limit = 0,
    out: Out = None,
    export: Export = None,
    post: Post = "none",
    unit: Unit = False,
    metric: Metric = "",
    pooling: Pooling = "mean",
    norm: Norm = "auto",
    stride: Stride = 4,
    share: Share = 0.6,
    max_tokens: Annotated[int, typer.Option(help="Longer texts are cut.")] = 512,
    repeats: Annotated[int, typer.Option(help="Repeats of the measured speed.")] = 7,
    lang: Annotated[str, typer.Option(help="Language of the page: en or ja.")] = "en",
    loading: options.Loading,
    revision: options.Revision = None,
    work: options.Work,
) -> None:
    """Choose the layer whose vectors serve a task, and export it; the same command resumes one that was stopped."""
    from depthscope.report.words import phrases

    phrases(lang)  # a language that is not there is refused before anything is measured
    from depthscope.advise.layer import NAME, ChooseLayer
    from depthscope.advise.layer_affine import parsed
    from depthscope.engine.study import conduct
    from depthscope.report.layer_page import write_layer_page
    from depthscope.report.page import write_report

    begun = work.begin()
    parsed(post)
    if export is not None and export.exists():
        raise BadInput(f"--export {export} exists already; name a folder that does not, or remove it")
    study = ChooseLayer(
        task, limit, metric, pooling, norm, stride, share, max_tokens=max_tokens, repeats=repeats
    )
    study.loaded()  # a wrong task file is refused before a model is loaded
    found = loading.open(model, revision)
    study.check(found)
    if export is not None:
        _exportable(found, pooling, post)
    folder = out or Path("runs") / f"{Path(model).name}-{Path(task).stem}"
    run = conduct(
        NAME, study, found, study.reading(), folder, **work.said(),
        progress=silent if work.as_json else lines,
    )  # fmt: skip
    served = _exported(run, found, export, post, unit) if export is not None else None
    pages = {"report": write_report(run), **write_layer_page(run, lang)}
    _tell(run, served, pages, time.perf_counter() - begun, work.as_json)


def _exportable(model: Any, pooling: str, post: str) -> None:  # noqa: ANN401
    """What no state of the model could be exported with is refused before one is searched for."""
    from depthscope.advise.layer_modules import exports
    from depthscope.advise.layer_recipe import Recipe

    exports(model)
    Recipe(0, pooling, post=post).check(model)


def _exported(run: Any, model: Any, folder: Path, post: str, unit: bool) -> Any:  # noqa: ANN401
    from depthscope.advise.layer_encoder import export_choice

    return export_choice(run, model, folder, post=post, unit=unit)


def _tell(run: Any, served: Any, pages: dict[str, Path], seconds: float, as_json: bool) -> None:  # noqa: ANN401
    from depthscope.advise.layer import NAME

    found = run[NAME].findings
    if as_json:
        about = {name: str(path) for name, path in pages.items()}
        say_json(
            {
                "run": str(run.path), **found.artefacts["choice"], "export": served.as_json() if served else None,
                **about, "notes": list(found.notes), "seconds": seconds,
            }
        )  # fmt: skip
        return
    for line in found.notes:
        typer.echo(line)
    if served:
        typer.echo(
            f"Exported to {served.encoder.folder}: {served.metric} {served.outside:.3f} by sentence-transformers, "
            f"{served.inside:.3f} inside the model."
        )
    say(f"done in {seconds:.1f} s")
    typer.echo(str(pages["html"]))
