"""`depthscope report RUN`: the run as one offline HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    out: Annotated[
        Path | None, typer.Option(help="The file; report.html in the run folder by default.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading; the model's name by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the report of a run as one HTML file that needs no network."""
    from depthscope.cli.output import say_json
    from depthscope.report.page import write_report
    from depthscope.store.run import open_run

    path = write_report(open_run(run), out, title)
    if as_json:
        say_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        typer.echo(str(path))
