"""`depthscope show RUN [NAME]`: the numbers of a run, as they are stored."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.errors import UnknownName

if TYPE_CHECKING:
    from depthscope.results.result import Result
    from depthscope.store.run import Run


class Form(StrEnum):
    """How numbers are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Shown:
    """What is to be printed: columns of equal length, what is known of them, and their file where stored."""

    columns: dict[str, list[Any]]
    about: dict[str, Any]
    stored: bytes = b""

    def rows(self) -> list[tuple[Any, ...]]:
        """The columns turned into rows."""
        return list(zip(*self.columns.values(), strict=True))


def command(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    name: Annotated[
        str,
        typer.Argument(help="analysis, analysis/measurement or analysis/example; what there is by default."),
    ] = "",
    form: Annotated[Form, typer.Option("--format", help="How to print.")] = Form.TABLE,
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Print the numbers of a run: what there is, one analysis, one measurement, or one example table."""
    from depthscope.cli.output import say_bytes
    from depthscope.store.run import open_run

    form = Form.JSON if as_json else form
    shown = find(open_run(run), name)
    if form is Form.PARQUET:
        say_bytes(shown.stored or _parquet(shown), out)
        return
    text = {Form.TABLE: _table, Form.CSV: _csv, Form.JSON: _json}[form](shown)
    if out is not None:
        say_bytes(text.encode("utf-8", "backslashreplace"), out)
    else:
        typer.echo(text, nl=False)


def find(run: Run, name: str) -> Shown:
    """What `name` means in a run: nothing, an analysis, or "analysis/measurement" or "analysis/example".

    Raises:
        UnknownName: the run has no such thing; the message names the nearest.
    """
    if not name:
        return _listing(run)
    analysis, slash, part = name.partition("/")
    result = run[analysis]
    return _part(result, part) if slash else _whole(result)


def _listing(run: Run) -> Shown:
    names = ("analysis", "name", "axes", "unit", "cells")
    rows: list[tuple[Any, ...]] = []
    for analysis, result in run.items():
        found = result.findings
        rows += [
            (analysis, n, ", ".join(m.axes) or "scalar", m.unit, m.value.size)
            for n, m in found.measurements.items()
        ]
        rows += [(analysis, n, "example table", "", len(table)) for n, table in found.examples.items()]
    columns = {column: [row[i] for row in rows] for i, column in enumerate(names)}
    return Shown(
        columns, {"run": str(run.path), "complete": run.complete, "command": run.manifest.get("command", "")}
    )


def _whole(result: Result) -> Shown:
    from depthscope.results.measurement import COLUMNS

    about = {
        "analysis": result.analysis,
        "title": result.text.title,
        "parameters": dict(result.parameters),
        "notes": list(result.findings.notes),
        "units": {name: m.unit for name, m in result.findings.measurements.items()},
    }
    measured = result.findings.measurements
    axes = dict.fromkeys(axis for m in measured.values() for axis in m.axes)
    long: dict[str, list[Any]] = {name: [] for name in ("measurement", *axes, *COLUMNS)}
    for name, m in measured.items():
        columns = {part: values.tolist() for part, values in m.columns().items()}
        nothing = [None] * len(columns["value"])
        for part, cells in long.items():
            cells.extend([name] * len(nothing) if part == "measurement" else columns.get(part, nothing))
    return Shown(long, about)


def _part(result: Result, part: str) -> Shown:
    from depthscope.store.tables import measurement_bytes, table_bytes

    found = result.findings
    if part in found.examples:
        table = found.examples[part]
        columns = {name: list(values.tolist()) for name, values in table.columns.items()}
        return Shown(
            columns, {"example": f"{result.analysis}/{part}", "note": table.note}, table_bytes(table)
        )
    if part not in found.measurements:
        raise UnknownName(f"measurement of {result.analysis}", part, (*found.measurements, *found.examples))
    m = found.measurements[part]
    columns = {name: values.tolist() for name, values in m.columns().items()}
    about = {"measurement": f"{result.analysis}/{part}", "unit": m.unit, "note": m.note, "missing": m.missing}
    return Shown(columns, about, measurement_bytes(m))


def _table(shown: Shown) -> str:
    from depthscope.cli.output import aligned, printable

    head = "".join(f"# {name}: {printable(str(value))}\n" for name, value in shown.about.items() if value)
    rows = [[_short(cell) for cell in row] for row in shown.rows()]
    return f"{head}{aligned(list(shown.columns), rows)}\n"


def _csv(shown: Shown) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(shown.columns)
    writer.writerows([["" if _missing(cell) else cell for cell in row] for row in shown.rows()])
    return text.getvalue()


def _json(shown: Shown) -> str:
    from depthscope.cli.output import json_text

    rows = [dict(zip(shown.columns, row, strict=True)) for row in shown.rows()]
    return json_text({**shown.about, "rows": rows}) + "\n"


def _parquet(shown: Shown) -> bytes:
    import numpy as np

    from depthscope.results.measurement import Table
    from depthscope.store.tables import table_bytes

    columns = {name: np.array(cells, dtype=_kind(cells)) for name, cells in shown.columns.items()}
    return table_bytes(Table(columns))


def _kind(cells: list[Any]) -> type:
    """Strings stay strings; numbers with gaps become float64."""
    if any(isinstance(cell, str) for cell in cells):
        return object
    return int if all(isinstance(cell, int) for cell in cells) else float


def _missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell)


def _short(cell: object) -> str:
    from depthscope.report.tables import MISSING, number

    if _missing(cell):
        return MISSING
    return number(cell).replace("\N{MINUS SIGN}", "-") if isinstance(cell, float) else str(cell)
