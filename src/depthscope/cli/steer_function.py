"""`depthscope steer MODEL --function FILE`: texts continued with a function vector and without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import say, say_json, say_table
from depthscope.errors import BadInput

Given = Annotated[
    str, typer.Option(help="A function vector: a file, or RUN:TASK of a run of function_vectors.")
]
Say = Annotated[
    list[str] | None, typer.Option("--say", help="A text that is continued with --function. Repeatable.")
]
Scale = Annotated[float, typer.Option(help="How often the function vector is added.")]
Save = Annotated[Path | None, typer.Option(help="File that the function vector is written to.")]


def continued(
    model: str,
    given: str,
    prompts: Sequence[str],
    new: int,
    scale: float,
    save: Path | None,
    loading: options.Loading,
    revision: str | None,
    work: options.Work,
) -> None:
    """Say how each text goes on with the function and without, or write the function into a file.

    Raises:
        BadInput: with neither a text nor a file.
    """
    from depthscope.engine.function_file import continued_under, function_of

    work.begin()
    function = function_of(given)
    if save is not None:
        function.save(save)
    elif not prompts:
        raise BadInput("--function needs a text to continue (--say) or a file to be written to (--save)")
    found = continued_under(loading.open(model, revision), function, prompts, new, scale) if prompts else []
    if work.as_json:
        say_json(
            {"task": function.task, "state": function.state, "continued": found, "file": str(save or "")}
        )
        return
    say(f"{function.task}, added at state {function.state}")
    if found:
        say_table(("text", "without", "with"), [tuple(map(repr, row.values())) for row in found])
    if save is not None:
        typer.echo(str(save))
