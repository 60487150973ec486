"""`depthscope list`: what there is to run, to read and to draw."""

from __future__ import annotations

from typing import Annotated

import typer

from depthscope.cli.output import say_json, say_table
from depthscope.errors import UnknownName
from depthscope.registry import ANALYSES, FAMILIES, PLOTS

KINDS = {"analyses": ANALYSES, "families": FAMILIES, "plots": PLOTS}


def command(
    kind: Annotated[str, typer.Argument(help="analyses, families or plots; all by default.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name the analyses, model families and plots, each with its one line."""
    if kind and kind not in KINDS:
        raise UnknownName("kind of thing to list", kind, KINDS)
    chosen = {kind: KINDS[kind]} if kind else KINDS
    titles = {
        name: {entry: registry.docstring(entry).partition("\n")[0] for entry in registry}
        for name, registry in chosen.items()
    }
    if as_json:
        say_json(titles)
        return
    for name, entries in titles.items():
        typer.echo("" if name == next(iter(titles)) else "\n", nl=False)
        say_table((name, ""), list(entries.items()))
