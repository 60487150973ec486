"""The writing side of a run folder. One process at a time may hold it; a lock file guards that."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from depthscope.errors import DepthscopeError, RunMismatch, StoreError
from depthscope.results.result import Result
from depthscope.store.atomic import make_folder, read_json, store_error, write_bytes, write_json
from depthscope.store.tables import SCHEMA, inputs_bytes, write_measurement, write_table
from depthscope.store.totals import TOTALS

MANIFEST = "manifest.json"
LOCK = ".lock"


class RunFolder:
    """A run folder held for writing; use it as a context manager, or call `close`.

    A command that is refused before anything is finished leaves no folder behind, so that the mended one can have it.

    Attributes:
        path: the folder.
        manifest: what manifest.json holds now.
    """

    def __init__(self, path: Path, lock: FileLock, manifest: Mapping[str, Any], made: bool = False) -> None:
        self.path, self.manifest, self._lock = path, dict(manifest), lock
        self._made, self._begun = made, False

    @classmethod
    def create(cls, path: Path | str, manifest: Mapping[str, Any]) -> RunFolder:
        """Start a run in an empty or new folder.

        Raises:
            RunMismatch: the folder already holds a run.
            StoreError: the folder holds other files, cannot be written to, or is held by another process.
        """
        held = _hold(Path(path))
        if (held.path / MANIFEST).exists():
            held.close()
            raise RunMismatch(f"{path} already holds a run; choose another --out.")
        held._refuse_foreign_files()
        held.write_manifest(manifest)
        return held

    @classmethod
    def open_or_create(cls, path: Path | str, key: Mapping[str, Any]) -> RunFolder:
        """Resume the run in a folder if it has the same `key`, or start one.

        Args:
            path: the folder.
            key: everything that must be equal for stored shards to be used again (JSON values); kept as `key`
                in the manifest.

        Raises:
            RunMismatch: the folder holds a run with another key; the message names what differs.
            StoreError: the folder holds other files, cannot be written to, or is held by another process.
        """
        held = _hold(Path(path))
        if not (held.path / MANIFEST).exists():
            held._refuse_foreign_files()
            held._begun = True
            held.write_manifest({"schema": SCHEMA, "key": dict(key), "complete": False})
            return held
        held.manifest = read_json(held.path / MANIFEST)
        if different := _differences(held.manifest.get("key", {}), key):
            held.close()
            said = "; ".join(different)
            raise RunMismatch(
                f"{path} holds another run: {said}. Choose another --out, or delete the folder."
            )
        return held

    def parts(self, name: str = "") -> Path:
        """The folder `parts/<name>`, made when it does not exist."""
        return make_folder(self.path / "parts" / name)

    def totals(self, analysis: str) -> Path:
        """Where the folded tally of an analysis is kept: findings can be concluded from it again, and runs paired."""
        return make_folder(self.path / TOTALS) / f"{analysis}.npz"

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace manifest.json; `schema` is added, a `key` from before is kept."""
        kept = {"key": self.manifest["key"]} if "key" in self.manifest else {}
        self.manifest = {"schema": SCHEMA, **kept, **manifest}
        write_json(self.path / MANIFEST, self.manifest)

    def write_result(self, result: Result) -> None:
        """Write the tables of one analysis, and last the results/<analysis>.json that lists them."""
        found = result.findings
        for name, measurement in found.measurements.items():
            write_measurement(self.path / "measurements" / result.analysis / f"{name}.parquet", measurement)
        for name, table in found.examples.items():
            write_table(self.path / "examples" / result.analysis / f"{name}.parquet", table)
        write_json(self.path / "results" / f"{result.analysis}.json", _described(result))
        _remove_others(self.path / "measurements" / result.analysis, found.measurements)
        _remove_others(self.path / "examples" / result.analysis, found.examples)

    def write_inputs(
        self, name: str, windows: Sequence[int], documents: Sequence[str], ids: Sequence[Sequence[int]]
    ) -> None:
        """Write inputs/<name>.parquet: the token ids of every window, so that any number can be recomputed."""
        write_bytes(self.path / "inputs" / f"{name}.parquet", inputs_bytes(windows, documents, ids))

    def close(self) -> None:
        """Let another process write."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._begun and isinstance(error, DepthscopeError) and not self._finished_something():
            self._take_away()

    def _finished_something(self) -> bool:
        """Whether there is more than what a run begins with: its manifest, the ids that it will read, its lock."""
        begins = {self.path / MANIFEST, self.path / LOCK, *(self.path / "inputs").glob("*")}
        return any(path.is_file() and path not in begins for path in self.path.rglob("*"))

    def _take_away(self) -> None:
        """Leave the place as it was found: no folder, or an empty one."""
        shutil.rmtree(self.path, ignore_errors=True)
        if not self._made:
            make_folder(self.path)

    def _refuse_foreign_files(self) -> None:
        foreign = sorted(path.name for path in self.path.iterdir() if not path.name.startswith("."))
        if foreign:
            self.close()
            (self.path / LOCK).unlink(missing_ok=True)
            named = ", ".join(foreign[:5])
            raise StoreError(
                f"{self.path} is not empty and not a run, it holds {named}. Choose another --out."
            )


def _remove_others(folder: Path, kept: Iterable[str]) -> None:
    """Delete the tables of an earlier result of the analysis that the new one does not have."""
    names = {f"{name}.parquet" for name in kept}
    for path in folder.glob("*.parquet"):
        if path.name not in names:
            path.unlink()


def _hold(path: Path) -> RunFolder:
    made = not path.exists()
    make_folder(path)
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(f"another process writes {path}; wait for it, or choose another --out.") from error
    except OSError as error:
        raise store_error(error, path) from error
    return RunFolder(path, lock, {}, made)


def _differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    names = sorted({*stored, *asked})
    return [
        f"{name} is {stored.get(name)!r} there and {asked.get(name)!r} here"
        for name in names
        if stored.get(name) != asked.get(name)
    ]


def _described(result: Result) -> dict[str, Any]:
    found = result.findings
    return {
        "schema": SCHEMA,
        "analysis": result.analysis,
        "parameters": dict(result.parameters),
        "text": asdict(result.text),
        "notes": list(found.notes),
        "measurements": list(found.measurements),
        "examples": list(found.examples),
        "artefacts": {name: dict(about) for name, about in found.artefacts.items()},
        "provenance": dict(result.provenance),
    }
