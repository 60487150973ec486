"""`depthscope fit KIND MODEL`: a ridge or tuned lens, or predictors, from the command line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.cli import fit_predictor, fit_sweep, options
from depthscope.cli.output import command_line, say_json, say_table
from depthscope.cli.progress import bar
from depthscope.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from depthscope.engine.reading import Reading
    from depthscope.fits.watch import Watch
    from depthscope.runtime.lens import Lens

KINDS = ("ridge-lens", "tuned-lens", "frequency", "predictor", "predictor-sweep")
PREDICTORS = {"predictor": fit_predictor.SHARED, "predictor-sweep": fit_sweep.SHARED}
"""Kinds that leave a run, and the flags of a tuned lens that each has."""
DEFAULT = 65536
"""Tokens a lens is fitted on."""
JUDGED = 512
"""Held-out positions a lens is judged at."""
TRAINING = (
    "preset", "steps", "step_tokens", "positions_per_seq", "init", "optimiser", "lr", "clip", "objective", "reduced",
    "rho", "reduced_tokens", "teacher", "check", "gain", "last",
)  # fmt: skip
"""Flags that only a tuned lens has."""

Kind = Annotated[str, typer.Argument(help="ridge-lens, tuned-lens, frequency, predictor or predictor-sweep.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the lens, or file of the table; default: lenses/MODEL-KIND.")
]
Tokens = Annotated[int | None, typer.Option(help="Tokens to read; default: 65536, all for frequency.")]
Ridge = Annotated[
    str, typer.Option(help="Ridge lens: multiples of the mean diagonal to choose from, with commas.")
]
HeldOut = Annotated[
    float, typer.Option(help="Share of documents to judge on, and as much again to choose by.")
]
Evaluate = Annotated[
    int | None, typer.Option(help="Held-out positions to judge at; default: 512, 16384 for a predictor.")
]
Preset = Annotated[
    str | None, typer.Option(help="Steps and tokens a step: paper, small or ci; predictor: paper or robust.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps, in place of the preset's.")]
StepTokens = Annotated[int | None, typer.Option(min=1, help="Tokens read a step, in place of the preset's.")]
Positions = Annotated[
    int | None, typer.Option(min=1, help="Positions trained on in each window; default: all.")
]
Init = Annotated[
    str | None, typer.Option(help="zero, ridge, previous_layer, or a folder with a lens; default: ridge.")
]
Optimiser = Annotated[str | None, typer.Option(help="sgd or adam; default: sgd.")]
Rate = Annotated[
    float | None, typer.Option(help="Rate of the first step; default: 0.1 for sgd, 0.001 for adam.")
]
Clip = Annotated[str | None, typer.Option(help="per_layer, global or none; default: per_layer.")]
Objective = Annotated[str | None, typer.Option(help="kl or cross_entropy; default: kl.")]
Reduced = Annotated[str | None, typer.Option(help="Reduced updates: none, position, vocab or label.")]
Rho = Annotated[float | None, typer.Option(help="The share of updates that is left; default: 0.001.")]
ReducedTokens = Annotated[str | None, typer.Option(help="Words whose updates are reduced, with commas.")]
Teacher = Annotated[str | None, typer.Option(help="model or shuffled (the same tokens in random order).")]
Check = Annotated[int | None, typer.Option(help="Steps between two checks; default: 25.")]
Gain = Annotated[float | None, typer.Option(help="Relative gain between checks below which training ends.")]
Last = Annotated[bool, typer.Option("--last", help="Keep the last step, not each state's best check.")]


def command(
    kind: Kind,
    model: options.Model,
    *,
    text: options.TextOption = "",
    tokens: Tokens = None,
    out: Out = None,
    window: options.Window = 256,
    field: options.Field = "text",
    max_length: options.MaxLength = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    ridge: Ridge = "",
    preset: Preset = None,
    steps: Steps = None,
    step_tokens: StepTokens = None,
    positions_per_seq: Positions = None,
    init: Init = None,
    optimiser: Optimiser = None,
    lr: Rate = None,
    clip: Clip = None,
    objective: Objective = None,
    reduced: Reduced = None,
    rho: Rho = None,
    reduced_tokens: ReducedTokens = None,
    teacher: Teacher = None,
    check: Check = None,
    gain: Gain = None,
    last: Last = False,
    held_out: HeldOut = 0.1,
    evaluate: Evaluate = None,
    predicting: fit_predictor.Predicting,
    seed: options.Seed = 0,
    loading: options.Loading,
    revision: options.Revision = None,
    as_json: options.Json = False,
) -> None:
    """Fit on a text and judge on held-out documents; the same command resumes one that was stopped."""
    flags = locals()
    given = {name: flags[name] for name in TRAINING if flags[name] is not None and flags[name] is not False}
    _check(kind, given, ridge, predicting)
    if kind == "frequency":
        from depthscope.cli.fit_frequency import counted

        table = out or Path("lenses") / f"{Path(model).name}-frequency.npz"
        counted(model, text, field, tokens, table, revision, as_json)
        return
    corpus = options.Corpus(text, tokens or 0, window, field, max_length, bos, chat)
    judging = {"held_out": held_out, "evaluate": evaluate, "seed": seed}
    if kind in PREDICTORS:
        study_of = fit_predictor.trained if kind == "predictor" else fit_sweep.swept
        study_of(predicting, given, corpus, judging, loading.open(model, revision), out, as_json)
        return
    reading = replace(corpus, tokens=tokens or DEFAULT).reading()
    study = _study(kind, reading, ridge, given, {**judging, "evaluate": evaluate or JUDGED})
    found = loading.open(model, revision)
    folder = out or Path("lenses") / f"{Path(model).name}-{kind.removesuffix('-lens')}"
    _fitted(study, found, folder, as_json)


def _check(kind: str, given: dict[str, Any], ridge: str, predicting: fit_predictor.Predicting) -> None:
    """Refuse what is no kind, and flags of another kind."""
    if kind not in KINDS:
        raise UnknownName("thing to fit", kind, KINDS)
    shared = PREDICTORS.get(kind, ())
    foreign = [name.replace("_", "-") for name in given if name not in shared]
    if kind != "tuned-lens" and foreign:
        why = "a predictor has none" if kind in PREDICTORS else f"a {kind} is not trained"
        raise BadInput(f"--{foreign[0]} belongs to tuned-lens; {why}")
    if kind != "ridge-lens" and ridge:
        raise BadInput("--ridge belongs to ridge-lens; a tuned lens starts from one with --init ridge")
    if kind not in PREDICTORS and predicting.given():
        raise BadInput(f"{predicting.given()[0]} belongs to predictor; a {kind} has none")


def _study(kind: str, reading: Reading, ridge: str, given: dict[str, Any], judging: dict[str, Any]) -> Any:  # noqa: ANN401
    from depthscope.fits.ridge_lens import GRID, RidgeLens
    from depthscope.fits.tuned_lens import TunedLens

    if kind == "ridge-lens":
        return RidgeLens(reading, ridge=options.numbers("--ridge", ridge) or GRID, **judging)
    words = str(given.pop("reduced_tokens", ""))
    if words:
        given["tokens"] = tuple(word for word in words.split(",") if word)
    if given.pop("last", False):
        given["best"] = False
    return TunedLens(reading, **{"init": "ridge", **given}, **judging)


def _fitted(study: Any, model: Any, folder: Path, as_json: bool) -> None:  # noqa: ANN401
    from depthscope.fits.study import fit

    begun = time.perf_counter()
    lens = fit(study, model, folder, watch=_watch(as_json), command=command_line())
    seconds = time.perf_counter() - begun
    if as_json:
        card = {"identity": lens.identity, "quality": lens.about["quality"], "fit": lens.about["fit"]}
        say_json({"lens": str(folder), "kind": lens.kind, **card, "seconds": seconds})
        return
    _say(lens)
    typer.echo(f"fitted in {seconds:.1f} s", err=True)
    typer.echo(str(folder))


def _watch(as_json: bool) -> Watch:
    from depthscope.fits.watch import SILENT, Watch

    return SILENT if as_json else Watch(bar(), _losses)


def _losses(step: int, losses: Sequence[float]) -> None:
    """One line a check: the mean over states, then each state's validation loss."""
    each = " ".join(f"{loss:.2f}" for loss in losses)
    typer.echo(f"step {step}: validation loss {sum(losses) / len(losses):.4f}, by state {each}", err=True)


def _say(lens: Lens) -> None:
    kl, agreement = (lens.about["quality"][name] for name in ("kl_to_final", "top1_agreement"))
    rows = [
        (
            str(s),
            *(f"{found[name]['value'][s]:.4f}" for found in (kl, agreement) for name in ("logit", lens.kind)),
        )
        for s in range(len(kl["logit"]["value"]))
    ]
    heads = ("state", "KL logit", f"KL {lens.kind}", "top-1 logit", f"top-1 {lens.kind}")
    say_table(heads, rows)
    typer.echo(f"KL in nats, n = {kl['n']} held-out units, {kl['n_items']} positions", err=True)
