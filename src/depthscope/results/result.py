"""A result: what one analysis found, with its text, its parameters and where it came from."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from depthscope.errors import UnknownName
from depthscope.results.measurement import Measurement, Table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SECTIONS = ("Question", "Method", "How to read", "What misleads", "Source")
"""The sections every analysis's module docstring has, in this order, below its title line."""


@dataclass(frozen=True)
class Text:
    """The words of an analysis, taken from its module docstring."""

    title: str
    question: str
    method: str
    how_to_read: str
    what_misleads: str
    source: str

    @classmethod
    def of(cls, docstring: str) -> Text:
        """Parse a module docstring: a title line, then each of SECTIONS as `Name:` at the start of a line."""
        title, _, rest = docstring.strip().partition("\n")
        found: dict[str, list[str]] = {name: [] for name in SECTIONS}
        current: list[str] = []
        for line in rest.splitlines():
            name, colon, first = line.partition(":")
            if colon and name in found:
                current = found[name]
                current.append(first.strip())
            else:
                current.append(line.strip())
        empty = [name for name, lines in found.items() if not "".join(lines)]
        if empty:
            raise UnknownName("section of the docstring, it is missing:", ", ".join(empty), SECTIONS)
        return cls(title.rstrip("."), *(" ".join(found[name]).strip() for name in SECTIONS))


@dataclass(frozen=True)
class Findings:
    """What an analysis or a study found.

    Args:
        measurements: by name. examples: tables that show single cases, by name. artefacts: what was left beside the
            tables, and what it is. notes: sentences on what to know of these numbers.

    Example:
        >>> findings = ds.open_run("runs/first")["residual_contribution"].findings
        >>> findings.data["block_relative_norm"].dims
        ('layer',)
    """

    measurements: Mapping[str, Measurement]
    examples: Mapping[str, Table] = field(default_factory=dict)
    artefacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def data(self) -> xr.Dataset:
        """All measurements as one dataset; `<name>_low`, `_high`, `_n`, `_n_items` stand beside each `<name>`."""
        import xarray as xr

        arrays: dict[str, xr.DataArray] = {}
        for name, found in self.measurements.items():
            arrays[name] = found.to_xarray()
            for part in ("low", "high", "n", "n_items"):
                if (values := getattr(found, part)) is not None:
                    arrays[f"{name}_{part}"] = arrays[name].copy(data=values)
        return xr.Dataset(arrays)


@dataclass(frozen=True)
class Result:
    """One analysis's findings with everything needed to trust, redraw and redo them.

    Args:
        analysis: its name. parameters: all of them, defaults included. text: the words of the analysis. provenance:
            model, revision, weights, number format, device, kernel, data and seed.

    Example:
        >>> result = ds.open_run("runs/first")["residual_contribution"]
        >>> result["block_relative_norm"].unit
        '1'
    """

    analysis: str
    parameters: Mapping[str, Any]
    findings: Findings
    text: Text
    provenance: Mapping[str, Any]

    @property
    def data(self) -> xr.Dataset:
        """The measurements as a labelled dataset with units."""
        return self.findings.data

    def __getitem__(self, name: str) -> Measurement:
        found = self.findings.measurements
        if name not in found:
            raise UnknownName(f"measurement of {self.analysis}", name, found)
        return found[name]

    def to_dataframe(self) -> pd.DataFrame:
        """All measurements in long form, one below the other, with the column `measurement` first."""
        import pandas as pd

        parts = [m.to_dataframe().assign(measurement=name) for name, m in self.findings.measurements.items()]
        table = pd.concat(parts, ignore_index=True)
        return table.loc[:, ["measurement", *(c for c in table.columns if c != "measurement")]]

    def _repr_html_(self) -> str:
        head = f"<h3>{html.escape(self.text.title)}</h3><p>{html.escape(self.text.question)}</p>"
        rows = "".join(
            f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(', '.join(m.axes) or 'scalar')}</td>"
            f"<td>{html.escape(m.unit)}</td><td>{m.value.size}</td></tr>"
            for name, m in self.findings.measurements.items()
        )
        return f"{head}<table><tr><th>measurement</th><th>axes</th><th>unit</th><th>cells</th></tr>{rows}</table>"
