"""The verbs and what each is for. A verb's module is imported when called; `--help` reads this table."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from depthscope.cli.groups import expanded
from depthscope.errors import BadInput, UnknownName

UsageProblem: Any = typer.BadParameter.__mro__[
    2
]  # the base of all usage errors; typer may carry its own click

VERBS = {
    "run": "Audit a model over a text and leave a run folder.",
    "plan": "Say what a run would read, need and take, without running it.",
    "fit": "Fit a lens of a model, or predictors of its states.",
    "map": "Predict every state of a model linearly from every state of another.",
    "pair": "Train a small transformer and a small Mamba on the same tokens, with checkpoints.",
    "iterate": "Train a small transformer on sequences that are worked through step by step.",
    "insert": "Put facts into an MLP by a change of rank one, and say what else changes.",
    "gates": "Say which key-value heads must keep all of their keys, and which may stream.",
    "registers": "Say what tokens without content are used for, in encoders trained here or in a model of images.",
    "explicit-bias": "Say whether heads leave the first token when each has a key and a value of its own.",
    "checkpoints": "Audit every checkpoint of a training, and lay what they measure over each other.",
    "emergence": "Say when grammar appears in a training: in its heads, and in what the model prefers.",
    "exit": "Say whether early exits pay: simulated on a text, and in text that the model writes.",
    "similarity": "Say how alike the states of two models are over the same texts.",
    "prune": "Remove layers, say what it costs, and leave a smaller checkpoint that loads.",
    "choose-layer": "Find the layer whose vectors serve a task, and export it as an encoder.",
    "steer": "Change what states say, with predictors or a function vector, and see what is said.",
    "decide": "Say whether a shallower model may do some work, as a report for those who decide.",
    "verify": "Check the laws on a model and print which hold.",
    "show": "Print the numbers of a run: table, CSV, JSON or Parquet.",
    "report": "Write the report of a run as one HTML file.",
    "compare": "Set runs side by side by relative depth.",
    "list": "Name the analyses, model families and plots.",
}


class Verbs(TyperGroup):
    """The group of all verbs; a verb that is only named in the help is not imported."""

    modules: ClassVar[dict[str, str]] = {verb: f"depthscope.cli.{verb.replace('-', '_')}" for verb in VERBS}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  (typer's own context class)
        """The verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ANN401, ARG002
        """A stand-in with the verb's one line, for the help."""
        return TyperCommand(cmd_name, help=VERBS[cmd_name]) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """The real verb that is called.

        Raises:
            UnknownName: there is no such verb; the message names the nearest.
        """
        if args[0] in VERBS:
            return args[0], loaded(args[0]), args[1:]
        if args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        raise UnknownName("verb", args[0], VERBS)


def loaded(verb: str) -> Any:  # noqa: ANN401  (a command of typer's own click)
    """The command of one verb, its module imported now.

    Raises:
        BadInput: this version does not have the verb yet.
    """
    try:
        module = importlib.import_module(Verbs.modules[verb])
    except ModuleNotFoundError as error:
        if error.name != Verbs.modules[verb]:
            raise
        raise BadInput(f"the verb {verb!r} is not part of this version of depthscope; see --help.") from error
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name=verb, help=VERBS[verb])(expanded(module.command))
    return get_command(single)


app = typer.Typer(cls=Verbs, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> bool:
    if asked:
        from depthscope import __version__

        typer.echo(f"depthscope {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def depthscope(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Shows how a language model uses its depth."""
    del version


def command() -> Any:  # noqa: ANN401  (a group of typer's own click)
    """The whole command line."""
    return get_command(app)
