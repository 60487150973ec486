"""`depthscope compare RUN RUN...`: runs side by side by relative depth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from depthscope.report.compare import Comparison


def command(
    runs: Annotated[
        list[Path], typer.Argument(help="Two run folders or more; differences are to the first.")
    ],
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Runs of one architecture are seeds of it: compare their means.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Also write an HTML page here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Set runs side by side by relative depth, paired where they read the same text."""
    from depthscope.cli.output import say_json
    from depthscope.report.compare import compare
    from depthscope.report.comparison_page import write_comparison
    from depthscope.report.seeds import compare_seeds
    from depthscope.store.run import open_run

    found = (compare_seeds if seeds else compare)([open_run(run) for run in runs])
    if out is not None:
        write_comparison(found, out)
    if as_json:
        say_json(_as_data(found) | ({"page": str(out)} if out else {}))
        return
    _say(found)
    if out is not None:
        typer.echo(f"\n{out}")


def _say(found: Comparison) -> None:
    """Every measurement at five depths, what curves come to in one number, then the single numbers."""
    from depthscope.cli.output import say_table
    from depthscope.report.comparison_curves import depth_table
    from depthscope.report.comparison_page import scalar_table
    from depthscope.report.head_comparison_page import heads_parts
    from depthscope.report.summaries import summary_table

    typer.echo(found.pairing)
    shown = [depth_table(found, one, step=5) for one in found.aligned.values()]
    if found.summaries:
        shown.append(summary_table(found.runs, found.summaries))
    for table in [*shown, scalar_table(found)] if found.scalars else shown:
        typer.echo(f"\n{table.caption}")
        say_table(table.columns, table.rows)
    for part in heads_parts(found.heads, found.course):
        typer.echo("\n".join(("", part.title, *part.sentences)))
        for table in part.tables:
            typer.echo(f"\n{table.caption}")
            say_table(table.columns, table.rows)


def _as_data(found: Comparison) -> dict[str, Any]:
    from depthscope.report.compare import GRID
    from depthscope.report.head_comparison_page import heads_data

    curves = {
        name: {
            "unit": one.unit,
            "interval": one.interval,
            "value": one.value.tolist(),
            "difference": one.difference.tolist(),
            "low": one.low.tolist(),
            "high": one.high.tolist(),
        }
        for name, one in found.aligned.items()
    }
    shorter = [
        {
            "curve": one.curve, "kind": one.kind, "unit": one.unit,
            **{part: getattr(one, part).tolist() for part in ("value", "low", "high", "difference", "below", "above")},
        }
        for one in found.summaries
    ]  # fmt: skip
    whole = {"runs": list(found.runs), "pairing": found.pairing, "depth": GRID.tolist()}
    scalars = {k: list(v) for k, v in found.scalars.items()}
    heads = heads_data(found.heads, found.course) if found.heads else {}
    return {**whole, "measurements": curves, "summaries": shorter, "scalars": scalars, **heads}
