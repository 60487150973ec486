"""Folded tallies read back without the engine: the sums of each document behind a measurement."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depthscope.errors import StoreError

TOTALS = "totals"
"""Folder of the folded tallies, one .npz an analysis; its arrays are called `<part>/<kind>/<field>`."""


@dataclass(frozen=True)
class DocumentSums:
    """Sums and counts of each unit (document) of one part of a tally, [unit, *cells]."""

    units: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray

    def cell(self, place: int) -> DocumentSums:
        """One cell of the last axis."""
        return DocumentSums(self.units, self.sums[..., place], self.counts[..., place])


@contextmanager
def arrays_in(path: Path) -> Generator[np.lib.npyio.NpzFile]:
    """The arrays of a tally's file, each read when it is asked for.

    Raises:
        StoreError: the file is gone or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and repeat the command.") from error


def read_sums(run: Path, analysis: str) -> dict[str, DocumentSums]:
    """The parts of an analysis's folded tally that are kept by document; empty where the run kept none.

    Raises:
        StoreError: the tally's file is damaged.
    """
    path = run / TOTALS / f"{analysis}.npz"
    if not path.exists():
        return {}
    with arrays_in(path) as stored:
        names = [
            n.removesuffix("/per_document/units") for n in stored.files if n.endswith("/per_document/units")
        ]
        return {n: _part(stored, f"{n}/per_document") for n in names}


def _part(stored: np.lib.npyio.NpzFile, prefix: str) -> DocumentSums:
    units = tuple(map(str, stored[f"{prefix}/units"]))
    return DocumentSums(units, stored[f"{prefix}/sums"], stored[f"{prefix}/counts"])
