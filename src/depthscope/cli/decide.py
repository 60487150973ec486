"""`depthscope decide CONFIG`: whether a shallower model may do the work, as a report for those who decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, hush, say, say_json


def command(
    config: Annotated[Path, typer.Argument(help="The task sheet, a TOML file.")],
    lang: Annotated[str, typer.Option(help="Language of the report: en or ja.")] = "en",
    out: Annotated[Path | None, typer.Option(help="Folder; default: decisions/CONFIG.")] = None,
    stop_after: Annotated[
        str, typer.Option(help="Last step, 1 to 8 or its name; default: what the sheet says.")
    ] = "",
    data: options.Data = "",
    as_json: options.Json = False,
) -> None:
    """Walk the steps of a task sheet and write what is decided as HTML, Markdown, JSON and CSV."""
    from depthscope.report.words import phrases

    phrases(lang)  # a language that is not there is refused before anything is measured
    options.use_data(data)
    from depthscope.advise.decide import decide
    from depthscope.advise.decision.sheet import load_sheet, step_number
    from depthscope.report.decision import write_decision
    from depthscope.report.words import Words

    sheet = load_sheet(config)
    if stop_after:
        sheet = replace(sheet, stop_after=step_number(stop_after))
    folder = out or Path("decisions") / config.stem
    found = decide(sheet, folder, command=command_line(), progress=hush if as_json else say)
    paths = {name: str(path) for name, path in write_decision(found, folder, lang).items()}
    words = Words(found, lang)
    lines = [words.say(one) for one in found.headline]
    if as_json:
        say_json({"headline": lines, "chosen": found.chosen, **paths})
        return
    for line in lines:
        typer.echo(line, err=True)
    typer.echo(paths["html"])
