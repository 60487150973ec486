"""Files that are either whole or not there.

A file is written to a hidden name in the same folder, flushed to the disk, renamed over the target, and the
folder is flushed too: after a crash or a power loss the target holds
the old bytes or the new ones, never a mixture.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from depthscope.errors import StoreError, StoreFull

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
AGAIN = "repeat the command that made it; where that stops at it too, give it another folder."
"""What to do about a damaged file: what has tallies or steps behind it is written again by the same command."""


def store_error(error: OSError, path: Path) -> StoreError:
    """The depthscope error for an operating-system error met while working on `path`."""
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return StoreFull(
            f"cannot write {path}: {reason}. Nothing was changed; make room and repeat the command to resume."
        )
    if error.errno in CLOSED:
        return StoreError(
            f"cannot write {path}: {reason}. Choose a folder you may write to with --out, "
            "or change its permissions."
        )
    return StoreError(f"cannot use {path}: {reason}. Check the path, or choose another folder with --out.")


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends without an error.

    Args:
        path: the target; its folder is made when it does not exist.

    Raises:
        StoreFull: the disk or the quota is full; the target keeps its old bytes.
        StoreError: the folder cannot be written to; the message names the path and the remedy.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        flush(path.parent)
    except OSError as error:
        _drop(partial)
        raise store_error(error, path) from error
    except BaseException:
        _drop(partial)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all; errors as in `replacing`."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` as UTF-8, whole or not at all; errors as in `replacing`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Put `content` at `path` as indented JSON in the order given.

    Raises:
        StoreError: when `content` holds something that JSON has no form for, NaN and infinities included.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"cannot write {path} as JSON: {error}. Use null for a missing number.") from error
    write_bytes(path, (text + "\n").encode("utf-8", "backslashreplace"))


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        StoreError: the file cannot be read or does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise store_error(error, path) from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); {AGAIN}") from error
    if not isinstance(content, dict):
        found = type(content).__name__
        raise StoreError(f"{path} should hold a JSON object, not a {found}; {AGAIN}")
    return content


def make_folder(path: Path) -> Path:
    """Make `path` and its parents, and return it; errors as in `replacing`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(error, path) from error
    return path


def flush(path: Path) -> None:
    """See to it that a file's bytes, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _drop(partial: Path) -> None:
    try:
        partial.unlink(missing_ok=True)
    except OSError:  # the folder itself may be gone or closed; the first error is the one to report
        return
