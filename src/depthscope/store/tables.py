"""Measurements and example tables as Parquet files, byte for byte the same for the same content.

A measurement has one column per axis, then `value, low, high, n, n_items` as float64, rows sorted by the
axes. Missing is null. The schema metadata holds `name`, `unit`, `note`, `missing`, `axes` (JSON, labels in
their own order) and `schema`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.errors import StoreError
from depthscope.results.measurement import COLUMNS, Measurement, Table
from depthscope.store.atomic import AGAIN, store_error, write_bytes

ArrowArray = Any  # pyarrow comes without types
ArrowTable = Any

SCHEMA = 1
"""Version of the files in a run folder; readers refuse versions they do not know."""


def measurement_bytes(found: Measurement) -> bytes:
    """The Parquet file of one measurement."""
    import pyarrow as pa

    columns = found.columns()
    arrays = {axis: _array(np.asarray(columns[axis])) for axis in found.axes}
    for part in COLUMNS:
        values = np.asarray(columns[part], dtype=np.float64)
        arrays[part] = pa.array(values, type=pa.float64(), mask=np.isnan(values))
    axes = {axis: np.asarray(labels).tolist() for axis, labels in found.axes.items()}
    meta = {"name": found.name, "unit": found.unit, "note": found.note, "missing": found.missing}
    return _parquet(arrays, {**meta, "axes": json.dumps(axes)})


def table_bytes(table: Table) -> bytes:
    """The Parquet file of one example table; strings stay strings, None is null."""
    arrays = {name: _array(np.asarray(values)) for name, values in table.columns.items()}
    return _parquet(arrays, {"note": table.note, "units": json.dumps(dict(table.units))})


def inputs_bytes(windows: Sequence[int], documents: Sequence[str], ids: Sequence[Sequence[int]]) -> bytes:
    """The Parquet file of the ids that were read: window (int32), document (string), ids (list of int32)."""
    import pyarrow as pa

    arrays = {
        "window": pa.array(windows, type=pa.int32()),
        "document": _array(np.asarray(list(documents), dtype=object)),
        "ids": pa.array([np.asarray(row, dtype=np.int32) for row in ids], type=pa.list_(pa.int32())),
    }
    return _parquet(arrays, {"note": "one row per window: the token ids that the model read, in order"})


def write_measurement(path: Path, found: Measurement) -> None:
    """Write one measurement at `path`, whole or not at all."""
    write_bytes(path, measurement_bytes(found))


def write_table(path: Path, table: Table) -> None:
    """Write one example table at `path`, whole or not at all."""
    write_bytes(path, table_bytes(table))


def read_measurement(path: Path) -> Measurement:
    """Read one measurement back, its axis labels in their own order.

    A part (low, high, n, n_items) that is null everywhere comes back as None.

    Raises:
        StoreError: the file is missing, damaged, or of a schema version that is not known.
    """
    table, meta = _read(path)
    axes = {axis: np.asarray(labels) for axis, labels in json.loads(meta["axes"]).items()}
    shape = tuple(len(labels) for labels in axes.values())
    parts = {part: _unsorted(_floats(table, part), axes).reshape(shape) for part in COLUMNS}
    for part in ("low", "high", "n", "n_items"):
        if np.isnan(parts[part]).all():
            del parts[part]
        elif part in ("n", "n_items"):
            parts[part] = np.asarray(np.nan_to_num(parts[part]))  # a scalar stays an array
    words = {word: meta[word] for word in ("unit", "note", "missing")}
    return Measurement(meta["name"], axes, **parts, **words)  # pyright: ignore[reportArgumentType]


def read_table(path: Path) -> Table:
    """Read one example table back; string columns are object arrays of str.

    Raises:
        StoreError: the file is missing, damaged, or of a schema version that is not known.
    """
    table, meta = _read(path)
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    return Table(columns, note=meta["note"], units=json.loads(meta["units"]))


def _array(values: np.ndarray) -> ArrowArray:
    """Strings as strings, lone surrogates spelled out (UTF-8 has no form for them); the rest as it is."""
    import pyarrow as pa

    words = values.dtype == object and all(v is None or isinstance(v, str) for v in values)
    if words or values.dtype.kind == "U":
        clean = [v if v is None else str(v).encode("utf-8", "backslashreplace").decode() for v in values]
        return pa.array(clean, type=pa.string())
    return pa.array(values)


def _parquet(arrays: Mapping[str, ArrowArray], meta: Mapping[str, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(arrays)).replace_schema_metadata({**meta, "schema": str(SCHEMA)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=3, version="2.6")
    return sink.getvalue()


def _read(path: Path) -> tuple[ArrowTable, dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowInvalid as error:
        raise StoreError(f"{path} is damaged ({error}); {AGAIN}") from error
    except OSError as error:
        raise store_error(error, path) from error
    meta = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    if meta.get("schema") != str(SCHEMA):
        raise StoreError(f"{path} has schema {meta.get('schema')!r}, this depthscope reads {SCHEMA}.")
    return table, meta


def _floats(table: ArrowTable, part: str) -> np.ndarray:
    values: Any = table.column(part).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


def _unsorted(values: np.ndarray, axes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Undo the sorting of rows: values in the order of the axis labels."""
    if not axes:
        return values
    grid = [part.ravel() for part in np.meshgrid(*axes.values(), indexing="ij")]
    restored = np.empty_like(values)
    restored[np.lexsort(list(reversed(grid)))] = values
    return restored
