"""A folder that is whole or not there: written under another name, renamed at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from depthscope.errors import StoreError, StoreFull
from depthscope.store.atomic import FULL, flush, make_folder, store_error


@contextmanager
def growing(folder: Path) -> Generator[Path]:
    """A folder that takes its name when the block ends without an error, and vanishes otherwise.

    Raises:
        StoreFull, StoreError: when it cannot be written; nothing is left behind.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        make_folder(partial)
        yield partial
        for path in sorted(partial.rglob("*")):
            flush(path)
        partial.rename(folder)
    except OSError as error:
        raise store_error(error, folder) from error
    except Exception as error:
        if not _of_disk(error):
            raise
        full = any(os.strerror(number) in str(error) for number in FULL)
        kind = StoreFull if full else StoreError
        raise kind(
            f"cannot write {folder}: {error}. Nothing was left there; make room and repeat."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _of_disk(error: Exception) -> bool:
    """Whether a library not written in Python speaks of the disk; safetensors has a class for it, tokenizers none."""
    return type(error).__name__ == "SafetensorError" or (
        type(error) is Exception and "os error" in str(error)
    )
