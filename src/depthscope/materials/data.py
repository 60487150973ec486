"""Data that come by path: where a named file is looked for. Nothing is downloaded and nothing is copied."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput

ROOT = "DEPTHSCOPE_DATA"
"""The environment variable that names the data folder; `--data` sets it."""


def data_path(source: str | Path) -> Path:
    """The file or folder that `source` names: as it is given, or else under the data folder.

    Raises:
        BadInput: when it is in neither place.
    """
    given, root = Path(source), os.environ.get(ROOT, "")
    places = [given] if given.is_absolute() or not root else [given, Path(root) / given]
    for place in places:
        if place.exists():
            return place
    said = f"and not under {ROOT}={root}" if root else f"and {ROOT} names no data folder"
    raise BadInput(f"there is no data at {str(source)[:200]}, {said}; give a path, or --data FOLDER")


def text_source(source: str) -> str | Path | None:
    """What `materials.text.read` takes for a source: None for "", hub names as they are, else a path of `data_path`."""
    if not source or source.startswith("hub:"):
        return source or None
    return data_path(source)


def json_rows(source: str | Path, packaged: str = "") -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, in order; of the packaged file where `source` is empty.

    Raises:
        BadInput: for a file that is missing, not UTF-8, or holds a line that is no JSON object; the line is named.
    """
    if str(source):
        path = data_path(source)
        name, raw = path.name, _read(path)
    else:
        name = packaged
        raw = resources.files("depthscope.materials").joinpath(f"packaged/{packaged}").read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{name} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        ) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _row(name, number, line)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; a JSON-lines file is expected") from error


def _row(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{name} line {number} is not JSON: {error.msg}; one object a line is expected"
        ) from error
    if not isinstance(found, dict):
        raise BadInput(
            f"{name} line {number} is a {type(found).__name__}; one JSON object a line is expected"
        )
    return found
