"""What verbs print: JSON, aligned text, or bytes. Model text is made visible before it reaches a terminal."""

from __future__ import annotations

import json
import math
import shlex
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from depthscope.errors import BadInput


def command_line() -> str:
    """The command that is running, as it can be typed again."""
    return shlex.join(["depthscope", *sys.argv[1:]])


def say(line: str) -> None:
    """A line for the reader on standard error, where results on standard output do not meet it."""
    typer.echo(line, err=True)


def hush(line: str) -> None:
    """No word, in place of `say`."""
    del line


def say_json(content: Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    typer.echo(json_text(content))


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns on standard output."""
    typer.echo(aligned(columns, rows))


def json_text(content: Mapping[str, Any]) -> str:
    """Indented JSON in ASCII; numbers that are not finite are null."""
    return json.dumps(_finite(content), ensure_ascii=True, allow_nan=False, indent=2)


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces, numbers to the right; no borders, so that it can be cut and searched."""
    lines = [[printable(cell) for cell in line] for line in (columns, *rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    right = [bool(rows) and all(map(_numeric, column[1:])) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(_padded, line, widths, right)).rstrip() for line in lines)


def printable(text: str) -> str:
    """The text with everything that a terminal could obey, or that has no look, spelled out."""
    return "".join(char if char.isprintable() else f"[U+{ord(char):04X}]" for char in text)


def say_bytes(data: bytes, out: Path | None) -> None:
    """Bytes into the file `out`, or onto standard output when that is no terminal.

    Raises:
        BadInput: neither a file was named nor is the output redirected.
        StoreError: the file cannot be written.
    """
    if out is not None:
        from depthscope.store.atomic import write_bytes

        write_bytes(out, data)
        return
    if sys.stdout.isatty():
        raise BadInput("this format is not for a terminal; name a file with --out, or redirect the output.")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _width(text: str) -> int:
    """Columns in a terminal: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _padded(cell: str, width: int, right: bool) -> str:
    gap = " " * (width - _width(cell))
    return gap + cell if right else cell + gap


def _numeric(cell: str) -> bool:
    try:
        float(cell.replace(",", "").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return cell in ("", "\N{EN DASH}")
    return True


def _finite(content: Any) -> Any:  # noqa: ANN401  (anything that JSON has a form for)
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
