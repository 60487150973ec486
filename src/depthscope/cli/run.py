"""`depthscope run MODEL`: an audit from the command line."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.errors import BadInput, Refused
from depthscope.materials.data import ROOT

if TYPE_CHECKING:
    from depthscope.anatomy.anatomy import Anatomy
    from depthscope.engine.needs import Analysis
    from depthscope.engine.session import Progress

Analyses = Annotated[str, typer.Option(help="Names with commas between; default: all first analyses.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter: logit_lens.positions=4096. Repeatable.")
]
Layers = Annotated[str, typer.Option(help="Layers to skip in layer_skip: 0,4-8,-1; default: all.")]
TextOption = Annotated[
    str, typer.Option(help="File, folder, hub:NAME[:SPLIT]; default: the packaged sample.")
]
Field = Annotated[str, typer.Option(help="The key that holds the text in JSON lines.")]
Tokens = Annotated[int, typer.Option(help="Tokens to read.")]
Window = Annotated[int, typer.Option(help="Tokens a window.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens read of each document.")]
Bos = Annotated[str, typer.Option(help="auto, always, never, or never-forced.")]
Chat = Annotated[bool, typer.Option(help="Each document is a user's message in the chat template.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float64 or auto (what the checkpoint says).")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...")]
Revision = Annotated[str | None, typer.Option(help="Hub revision.")]
Attention = Annotated[str | None, typer.Option("--attn", help="sdpa or eager.")]
Remote = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
Seed = Annotated[int, typer.Option(help="The one seed; all others derive from it.")]
Lens = Annotated[
    str,
    typer.Option(
        help="logit, a folder that `depthscope fit` wrote, or several with commas; the first is the run's."
    ),
]
Data = Annotated[str, typer.Option(help="Folder with data sets; the same as DEPTHSCOPE_DATA.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str, typer.Argument(help="Hub id, folder, .gguf file, embedded name, or tiny-FAMILY.")]


def command(
    model: Model,
    analyses: Analyses = "",
    text: TextOption = "",
    tokens: Tokens = 8192,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL.")] = None,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    window: Window = 256,
    field: Field = "text",
    max_length: MaxLength = None,
    layers: Layers = "",
    settings: Set = None,
    bos: Bos = "auto",
    chat: Chat = False,
    device: Device = None,
    device_map: Annotated[str | None, typer.Option(help="Passed to transformers: auto, balanced ...")] = None,
    revision: Revision = None,
    attn: Attention = None,
    trust_remote_code: Remote = False,
    lens: Lens = "logit",
    data: Data = "",
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    null: Annotated[
        str, typer.Option(help="Nulls to run beside it: untrained, shuffled, or both with a comma.")
    ] = "",
    force: Annotated[bool, typer.Option(help="Go on although a law is broken.")] = False,
    report: Annotated[bool, typer.Option(help="Write report.html at the end.")] = True,
    as_json: Json = False,
) -> None:
    """Audit a model over a text; the same command resumes a run that was stopped."""
    from depthscope.engine.audit import audit
    from depthscope.report.page import write_report
    from depthscope.runtime.load import load

    begun = time.perf_counter()
    use_data(data)
    say = _said if not as_json else _silent
    nulls = _nulls(null)
    found = load(
        model, revision=revision, dtype=None if dtype == "auto" else dtype, device=device, device_map=device_map,
        attn_implementation=attn, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    loaded = time.perf_counter() - begun
    say(f"loaded {found.name}: {found.anatomy.n_layers} layers, {found.dtype}, {loaded:.1f} s")
    folder = out or Path("runs") / Path(model).name
    asked = selected(analyses, settings or [], layers, found.anatomy)
    how: dict[str, Any] = {
        "text": text or None, "tokens": tokens, "window": window, "field": field, "max_length": max_length, "bos": bos,
        "chat": chat, "seed": seed, "workers": workers, "force": force, "lens": lens,
    }  # fmt: skip
    run = audit(
        found, asked, out=folder, progress=None if as_json else _progress(), command=_command(), **how
    )
    nulled: dict[str, Any] = {**how, "force": True}
    for kind in nulls:
        say(f"null: {kind}")
        other = _untrained(found, seed) if kind == "untrained" else found
        shuffled = "shuffled" if kind == "shuffled" else None
        audit(
            other,
            asked,
            out=folder / "nulls" / kind,
            null=shuffled,
            command=_command(),
            **nulled,
        )
    page = write_report(run) if report else None
    seconds = time.perf_counter() - begun - loaded
    if as_json:
        _say_json(run, page, loaded, seconds)
        return
    for name, reason in run.manifest.get("refused", {}).items():
        say(f"left out {name}: {reason}")
    say(f"audited in {seconds:.1f} s (model loaded in {loaded:.1f} s before)")
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
    from depthscope.registry import ANALYSES

    changes = _changes(settings)
    if layers:
        changes.setdefault("layer_skip", {})["layers"] = parse_layers(layers, anatomy.n_layers)
    names = [n.strip() for n in analyses.split(",") if n.strip()] or (list(FIRST) if changes else [])
    unused = set(changes) - set(names)
    if unused:
        raise BadInput(f"--set or --layers speaks of {', '.join(sorted(unused))}, which this run does not do")
    found = [ANALYSES[name](**changes[name]) if name in changes else name for name in names]
    return found if analyses else [one for one in found if _answers(one, anatomy)] or None


def _answers(analysis: str | Analysis, anatomy: Anatomy) -> bool:
    from depthscope.registry import ANALYSES

    try:
        (ANALYSES[analysis]() if isinstance(analysis, str) else analysis).needs(anatomy)
    except Refused:
        return False
    return True


def parse_layers(text: str, n_layers: int) -> tuple[int, ...]:
    """Layer numbers of `0,4-8,-1`, sorted.

    Raises:
        BadInput: for anything else, or a layer that does not exist.
    """
    found: set[int] = set()
    for piece in text.split(","):
        first, dash, last = piece.strip().rpartition("-")
        try:
            if dash and first:
                found.update(range(int(first), int(last) + 1))
            else:
                found.add(int(piece) % n_layers if -n_layers <= int(piece) < 0 else int(piece))
        except ValueError as error:
            raise BadInput(f"--layers {text!r}: {piece!r} is no layer; write it as 0,4-8,-1") from error
    wrong = sorted(k for k in found if not 0 <= k < n_layers)
    if wrong:
        raise BadInput(f"--layers {text!r}: {wrong} do not exist, the model has layers 0 to {n_layers - 1}")
    return tuple(sorted(found))


def _changes(settings: list[str]) -> dict[str, dict[str, Any]]:
    from dataclasses import fields

    from depthscope.registry import ANALYSES

    changes: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, dot, rest = setting.partition(".")
        parameter, equals, value = rest.partition("=")
        if not (dot and equals):
            raise BadInput(f"--set {setting!r} is not of the form ANALYSIS.PARAMETER=VALUE")
        known = {f.name: f.default for f in fields(ANALYSES[name])}
        if parameter not in known:
            raise BadInput(f"--set {setting!r}: {name} has the parameters {', '.join(known) or 'none'}")
        changes.setdefault(name, {})[parameter] = _typed(value, known[parameter], setting)
    return changes


def _typed(value: str, default: object, setting: str) -> object:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, tuple):
            kind = type(default[0]) if default else int
            return tuple(kind(piece.strip()) for piece in value.split(",") if piece.strip())
        return float(value) if isinstance(default, float) else value
    except (ValueError, KeyError) as error:
        raise BadInput(f"--set {setting!r}: {value!r} does not fit, the default is {default!r}") from error


def use_data(folder: str) -> None:
    """Make a folder the place where named data are looked for; nothing changes for an empty name."""
    if not folder:
        return
    if not Path(folder).is_dir():
        raise BadInput(f"--data {folder}: there is no such folder")
    os.environ[ROOT] = str(Path(folder).resolve())


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


def _command() -> str:
    return shlex.join(["depthscope", *sys.argv[1:]])


def _said(line: str) -> None:
    typer.echo(line, err=True)


def _silent(line: str) -> None:
    del line


def _progress() -> Progress | None:
    """A bar with rate and remaining time on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}/{task.total:,.0f} tokens"),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=Console(stderr=True),
    )  # fmt: skip
    state: dict[str, Any] = {}

    def show(phase: str, done: int, total: int) -> None:
        if phase not in state:
            bar.start()
            state[phase] = (
                bar.add_task(phase, total=total, completed=done, rate=""),
                time.perf_counter(),
                done,
            )
        task, begun, first = state[phase]
        rate = (done - first) / max(1e-9, time.perf_counter() - begun)
        bar.update(task, completed=done, total=total, rate=f"{rate:,.0f} tokens/s" if done > first else "")
        if done >= total:
            bar.stop()

    return show


def _say_json(run: Any, page: Path | None, loaded: float, seconds: float) -> None:  # noqa: ANN401
    from depthscope.cli.output import say_json

    manifest = run.manifest
    say_json({
        "run": str(run.path), "report": None if page is None else str(page), "analyses": list(run),
        "refused": manifest.get("refused", {}),
        "seconds": {"load": loaded, "audit": seconds, **manifest.get("timings", {})},
    })  # fmt: skip
