"""Rows with the columns that a material needs, from a file of the user's or from the packaged one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.data import json_rows

Row = Mapping[str, Any]


def rows(source: str, packaged: str, columns: Sequence[str] = ()) -> tuple[str, list[Row]]:
    """Where rows came from, in words, and the rows.

    Args:
        source: a path, see `materials.data.data_path`; "" for the packaged file. columns: what every row must have.

    Raises:
        BadInput: for a path that is no file of JSON lines, and for a row that lacks a column.
        EmptyMaterial: for a file without rows.
    """
    name = Path(source).name if source else f"packaged {packaged}"
    found = list(json_rows(source, packaged))
    if not found:
        raise EmptyMaterial(f"{name} has no rows; give JSON objects, one a line")
    for number, row in enumerate(found, start=1):
        lacking = [column for column in columns if column not in row]
        if lacking:
            has, lacks = ", ".join(map(repr, row)), ", ".join(map(repr, lacking))
            raise BadInput(f"{name} row {number} has no {lacks}; it has {has}")
    return name, list(found)
