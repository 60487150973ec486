"""A finished or growing run, read back as a mapping from analysis to result."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscope.errors import StoreError, UnknownName
from depthscope.results.result import Findings, Result, Text
from depthscope.store.atomic import AGAIN, read_json
from depthscope.store.folder import MANIFEST, RunFolder
from depthscope.store.tables import SCHEMA, read_measurement, read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "RunFolder", "open_run"]


class Run(Mapping[str, Result]):
    """The results of one run folder by analysis; each is read when it is first asked for.

    Args:
        path: the run folder.
        manifest: what manifest.json says about the model, the data and the command.

    Example:
        >>> list(ds.open_run("runs/first"))
        ['residual_contribution']
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self._read: dict[str, Result] = {}

    @property
    def complete(self) -> bool:
        """Whether every analysis of the command was finished."""
        return bool(self.manifest.get("complete", False))

    def __getitem__(self, name: str) -> Result:
        if name not in self._read:
            if name not in list(self):
                raise UnknownName(f"analysis in {self.path}", name, list(self))
            self._read[name] = _result(self.path, name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __iter__(self) -> Iterator[str]:
        files = (self.path / "results").glob("*.json")
        there = {path.stem for path in files if not path.name.startswith(".")}
        asked = [name for name in self.manifest.get("analyses", {}) if name in there]
        return iter([*asked, *sorted(there - set(asked))])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_dataframe(self) -> pd.DataFrame:
        """All measurements in long form; `analysis` and `measurement` are the first columns."""
        import pandas as pd

        parts = [result.to_dataframe().assign(analysis=name) for name, result in self.items()]
        if not parts:
            return pd.DataFrame({"analysis": [], "measurement": []})
        table = pd.concat(parts, ignore_index=True)
        return table.loc[:, ["analysis", *(c for c in table.columns if c != "analysis")]]

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {', '.join(self) or 'no result yet'})"

    def _repr_html_(self) -> str:
        model = self.manifest.get("model", {}).get("name", "unknown model")
        state = "complete" if self.complete else "not complete"
        rows = "".join(
            f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(result.text.title)}</td>"
            f"<td>{html.escape(', '.join(result.findings.measurements))}</td></tr>"
            for name, result in self.items()
        )
        head = f"<h3>{html.escape(str(model))}</h3><p><code>{html.escape(str(self.path))}</code>, {state}</p>"
        return f"{head}<table><tr><th>analysis</th><th>title</th><th>measurements</th></tr>{rows}</table>"


def open_run(path: Path | str) -> Run:
    """Open a run folder for reading.

    Raises:
        StoreError: there is no folder, no manifest, a damaged one, or one of an unknown schema.

    Example:
        >>> ds.open_run("runs/first").complete
        True
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        found = "it has no manifest.json" if folder.is_dir() else "there is no such folder"
        raise StoreError(f"{folder} is not a run folder: {found}. Give the --out folder of a run.")
    manifest = read_json(folder / MANIFEST)
    if manifest.get("schema") != SCHEMA:
        raise StoreError(
            f"{folder} was written with schema {manifest.get('schema')!r}, this depthscope reads {SCHEMA}; "
            f"use depthscope {manifest.get('depthscope', 'of another version')} or run again."
        )
    return Run(folder, manifest)


def _result(folder: Path, name: str) -> Result:
    path = folder / "results" / f"{name}.json"
    stored = read_json(path)
    try:
        return _read_result(folder, stored)
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged (it lacks or does not know {error}); {AGAIN}") from error


def _read_result(folder: Path, stored: Mapping[str, Any]) -> Result:
    analysis = stored["analysis"]
    measured, shown = folder / "measurements" / analysis, folder / "examples" / analysis
    findings = Findings(
        {name: read_measurement(measured / f"{name}.parquet") for name in stored["measurements"]},
        {name: read_table(shown / f"{name}.parquet") for name in stored["examples"]},
        stored["artefacts"],
        tuple(stored["notes"]),
    )
    return Result(analysis, stored["parameters"], findings, Text(**stored["text"]), stored["provenance"])
