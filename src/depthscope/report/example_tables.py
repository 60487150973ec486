"""Examples on the page: the first rows of the tables that say in words what an analysis saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from depthscope.report.tables import PageTable, number
from depthscope.results.measurement import Table
from depthscope.results.visible import readable, visible

SHOWN = {"tasks": "Tasks", "texts": "Texts", "decoded": "What the vectors say"}
"""Tables of examples that a page shows, and what they are called there."""
EACH = 4
"""So many rows of each label in the first column, in the order of the run: none is chosen."""
TOKENS = ("token",)
"""Columns of single tokens, whose spaces are made visible."""


def example_tables(examples: Mapping[str, Table]) -> tuple[PageTable, ...]:
    """Those of SHOWN that hold a row; text of the model is made visible, the template escapes it."""
    return tuple(_drawn(name, examples[name]) for name in SHOWN if name in examples and len(examples[name]))


def _drawn(name: str, table: Table) -> PageTable:
    columns = tuple(table.columns)
    values = [np.asarray(table.columns[column]).tolist() for column in columns]
    kept = list(_first_of_each([str(label) for label in values[0]]))
    rows = tuple(
        tuple(_cell(column, every[k]) for column, every in zip(columns, values, strict=True)) for k in kept
    )
    left = len(table) - len(kept)
    more = f"; {left} more rows are in the run folder" if left else ""
    return PageTable(
        SHOWN[name], tuple(c.replace("_", " ") for c in columns), rows, note=f"{table.note}{more}"
    )


def _first_of_each(labels: list[str]) -> Iterator[int]:
    seen = Counter[str]()
    for k, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= EACH:
            yield k


def _cell(column: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(float(value))
    text = "" if value is None else str(value)
    return visible(text) if column in TOKENS else readable(text)
