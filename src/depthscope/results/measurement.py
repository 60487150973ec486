"""A measurement: one labelled array with its interval, its counts and its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from depthscope.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = ("value", "low", "high", "n", "n_items")
"""What every measurement table holds after its axis columns."""

AXES = frozenset({
    "document", "prompt", "position", "query", "key", "state", "layer", "later_layer", "sublayer", "head", "offset",
    "token", "bucket", "k", "lens", "mode", "sinks", "relation", "option", "task", "kept", "step", "variant", "model",
    "seed", "feature", "definition", "transition", "depth", "word_class", "policy", "target", "every", "confidence",
    "score", "level", "length", "source", "criterion", "other", "other_state", "role",
})  # fmt: skip
"""The only axis names: one word for one thing in every table."""


@dataclass(frozen=True)
class Measurement:
    """One named array over labelled axes.

    Args:
        name: snake_case, without the analysis: "kl_to_final".
        axes: axis name -> labels, in the order of the array's dimensions; empty for a scalar.
        value: float64, shape = lengths of the axes; missing cells are NaN and `missing` says why.
        unit: "nats", "probability", "1", "tokens", "seconds", "bytes", "radians".
        low, high: bounds of the interval (95 % unless the note says otherwise), or None.
        n: independent units behind each cell (documents; windows where the note says so).
        n_items: items behind each cell (positions, prompts, rows).
        note: what a reader must know: convention, reduction, what was left out.
        missing: why cells are NaN, empty when none is.

    Raises:
        BadInput: when shapes, axis names or the reason for missing cells do not fit.

    Example:
        >>> found = ds.Measurement("kl_to_final", {"state": np.arange(2)}, np.array([1.5, 0.0]), "nats")
        >>> found.at(state=0)
        1.5
    """

    name: str
    axes: Mapping[str, np.ndarray]
    value: np.ndarray
    unit: str
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    n: np.ndarray | None = None
    n_items: np.ndarray | None = None
    note: str = ""
    missing: str = ""

    def __post_init__(self) -> None:
        shape = tuple(len(labels) for labels in self.axes.values())
        for part in COLUMNS:
            array = getattr(self, part)
            if array is not None:
                object.__setattr__(self, part, self._fitted(part, np.asarray(array), shape))
        unknown = set(self.axes) - AXES
        if unknown:
            raise BadInput(
                f"measurement {self.name!r} has axes {sorted(unknown)}; the known axes are {sorted(AXES)}"
            )
        if np.isnan(self.value).any() and not self.missing:
            raise BadInput(f"measurement {self.name!r} has missing cells but gives no reason; set `missing`")

    def _fitted(self, part: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if array.shape not in (shape, ()):
            raise BadInput(
                f"{part} of {self.name!r} has shape {array.shape}, its axes {list(self.axes)} say {shape}"
            )
        kind = np.int64 if part in ("n", "n_items") else np.float64
        return np.broadcast_to(array.astype(kind), shape).copy()

    def scalar(self) -> float:
        """The value of a measurement without axes."""
        return float(self.value)

    def at(self, **labels: object) -> float:
        """The value at one label of each axis: `m.at(state=3)`."""
        index = tuple(self._index(axis, labels[axis]) for axis in self.axes)
        return float(self.value[index])

    def select(self, **labels: object) -> Measurement:
        """The measurement restricted to one label of some axes; those axes disappear."""
        index = tuple(
            self._index(axis, labels[axis]) if axis in labels else slice(None) for axis in self.axes
        )
        kept = {axis: names for axis, names in self.axes.items() if axis not in labels}
        parts = {
            part: None if (a := getattr(self, part)) is None else np.asarray(a[index]) for part in COLUMNS
        }
        return Measurement(self.name, kept, unit=self.unit, note=self.note, missing=self.missing, **parts)  # pyright: ignore[reportArgumentType]

    def _index(self, axis: str, label: object) -> int:
        found = np.flatnonzero(np.asarray(self.axes[axis]) == label)
        if len(found) == 0:
            raise BadInput(f"{self.name!r} has no {axis} = {label!r}; it has {list(self.axes[axis])}")
        return int(found[0])

    def columns(self) -> dict[str, np.ndarray]:
        """Long form: one column per axis, then value, low, high, n, n_items; rows sorted by the axes."""
        grid = np.meshgrid(*(np.asarray(labels) for labels in self.axes.values()), indexing="ij")
        table = {axis: part.ravel() for axis, part in zip(self.axes, grid, strict=True)}
        nothing = np.full(self.value.size, np.nan)
        for part in COLUMNS:
            array = getattr(self, part)
            table[part] = nothing if array is None else np.atleast_1d(array).ravel()
        if not self.axes:
            return table
        order = np.lexsort([table[axis] for axis in reversed(list(self.axes))])
        return {column: values[order] for column, values in table.items()}

    def to_xarray(self) -> xr.DataArray:
        """The value as a labelled array with `unit`, `note` and `missing` in its attributes."""
        import xarray as xr

        coords = {axis: np.asarray(labels) for axis, labels in self.axes.items()}
        attributes = {"units": self.unit, "note": self.note, "missing": self.missing}
        return xr.DataArray(self.value, coords=coords, dims=list(self.axes), name=self.name, attrs=attributes)

    def to_dataframe(self) -> pd.DataFrame:
        """The long form as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.columns())


@dataclass(frozen=True)
class Table:
    """A plain table of examples: column name -> values of equal length, with a note on what a row is."""

    columns: Mapping[str, np.ndarray]
    note: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise BadInput(f"the columns of a table must have one length, found {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def to_dataframe(self) -> pd.DataFrame:
        """The same rows as a pandas table."""
        import pandas as pd

        return pd.DataFrame(dict(self.columns))
