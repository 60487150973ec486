"""What is written to a table is what is read back, and equal content gives equal bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthscope.errors import StoreError
from depthscope.results.measurement import COLUMNS, Measurement, Table
from depthscope.store import tables

PARTS = COLUMNS


def effect() -> Measurement:
    """Six cells whose labels are not in sorted order; one is missing."""
    value = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    axes = {"layer": np.array([3, 1]), "sublayer": np.array(["block", "attention", "mlp"])}
    return Measurement(
        "effect", axes, value, "nats", value - 1, value + 1, np.full((2, 3), 7), None, "a note", "no layer"
    )


def same(a: Measurement, b: Measurement) -> None:
    assert (a.name, a.unit, a.note, a.missing, list(a.axes)) == (
        b.name,
        b.unit,
        b.note,
        b.missing,
        list(b.axes),
    )
    for axis in a.axes:
        np.testing.assert_array_equal(a.axes[axis], b.axes[axis])
    for part in PARTS:
        mine, theirs = getattr(a, part), getattr(b, part)
        assert (mine is None) == (theirs is None), part
        if mine is not None:
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype


def test_a_measurement_comes_back_with_its_labels_in_their_own_order(tmp_path: Path):
    tables.write_measurement(tmp_path / "m.parquet", effect())
    same(tables.read_measurement(tmp_path / "m.parquet"), effect())


def test_rows_are_sorted_by_the_axes_and_missing_is_null(tmp_path: Path):
    tables.write_measurement(tmp_path / "m.parquet", effect())
    table = pq.read_table(tmp_path / "m.parquet")
    assert table.column_names == ["layer", "sublayer", "value", "low", "high", "n", "n_items"]
    assert table.column("layer").to_pylist() == [1, 1, 1, 3, 3, 3]
    assert table.column("sublayer").to_pylist() == ["attention", "block", "mlp"] * 2
    assert table.column("value").to_pylist() == [5.0, 4.0, 6.0, 2.0, 1.0, None]
    assert table.column("n").to_pylist() == [7.0] * 6
    assert table.column("n_items").to_pylist() == [None] * 6
    assert {str(table.schema.field(part).type) for part in PARTS} == {"double"}


def test_the_metadata_says_unit_note_reason_and_axes(tmp_path: Path):
    tables.write_measurement(tmp_path / "m.parquet", effect())
    meta = {k.decode(): v.decode() for k, v in pq.read_schema(tmp_path / "m.parquet").metadata.items()}
    assert json.loads(meta.pop("axes")) == {"layer": [3, 1], "sublayer": ["block", "attention", "mlp"]}
    assert meta == {"name": "effect", "unit": "nats", "note": "a note", "missing": "no layer", "schema": "1"}


def test_a_scalar_has_no_axis_column_and_one_row(tmp_path: Path):
    scalar = Measurement("floor", {}, np.array(0.25), "nats", n=np.array(3))
    tables.write_measurement(tmp_path / "m.parquet", scalar)
    assert pq.read_table(tmp_path / "m.parquet").to_pylist() == [
        {"value": 0.25, "low": None, "high": None, "n": 3.0, "n_items": None}
    ]
    same(tables.read_measurement(tmp_path / "m.parquet"), scalar)


def test_equal_content_gives_equal_bytes_and_other_content_other_bytes():
    assert tables.measurement_bytes(effect()) == tables.measurement_bytes(effect())
    other = effect()
    other.value[0, 0] += 1e-15
    assert tables.measurement_bytes(effect()) != tables.measurement_bytes(other)


@given(st.permutations(range(5)), st.permutations(["b", "a", "c"]), st.integers(0, 2**31))
def test_any_order_of_labels_survives(states: list[int], modes: list[str], seed: int):
    value = np.random.default_rng(seed).normal(size=(5, 3))
    found = Measurement("m", {"state": np.array(states), "mode": np.array(modes)}, value, "1")
    with tempfile.TemporaryDirectory() as folder:
        tables.write_measurement(Path(folder) / "m.parquet", found)
        same(tables.read_measurement(Path(folder) / "m.parquet"), found)


def test_strings_of_an_example_table_stay_strings(tmp_path: Path):
    tokens = np.array(["</script>", "\u202e", "\x00", "1", "", "ü", None, "\ud800"], dtype=object)
    table = Table(
        {"token": tokens, "k": np.arange(8), "p": np.linspace(0, 1, 8)}, "one row a token", {"p": "1"}
    )
    tables.write_table(tmp_path / "t.parquet", table)
    back = tables.read_table(tmp_path / "t.parquet")
    assert list(back.columns["token"]) == [*tokens[:-1], "\\ud800"]
    np.testing.assert_array_equal(back.columns["k"], np.arange(8))
    np.testing.assert_array_equal(back.columns["p"], np.linspace(0, 1, 8))
    assert (back.note, back.units) == ("one row a token", {"p": "1"})


def test_strings_of_fixed_width_stay_strings(tmp_path: Path):
    tables.write_table(tmp_path / "t.parquet", Table({"token": np.array(["a", "bc"])}))
    assert list(tables.read_table(tmp_path / "t.parquet").columns["token"]) == ["a", "bc"]


def test_the_ids_that_were_read_are_a_list_per_window(tmp_path: Path):
    (tmp_path / "i.parquet").write_bytes(tables.inputs_bytes([0, 1], ["a.txt", "a.txt"], [[1, 2, 3], [4]]))
    table = pq.read_table(tmp_path / "i.parquet")
    assert table.to_pylist() == [
        {"window": 0, "document": "a.txt", "ids": [1, 2, 3]},
        {"window": 1, "document": "a.txt", "ids": [4]},
    ]
    assert str(table.schema.field("ids").type) == "list<element: int32>"


def test_a_damaged_file_says_what_to_do(tmp_path: Path):
    path = tmp_path / "m.parquet"
    path.write_bytes(tables.measurement_bytes(effect())[:-20])
    with pytest.raises(StoreError, match="damaged"):
        tables.read_measurement(path)


def test_a_missing_file_and_an_unknown_schema_are_store_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(StoreError, match=r"none\.parquet"):
        tables.read_measurement(tmp_path / "none.parquet")
    monkeypatch.setattr(tables, "SCHEMA", 2)
    tables.write_measurement(tmp_path / "m.parquet", effect())
    monkeypatch.undo()
    with pytest.raises(StoreError, match="schema '2'"):
        tables.read_measurement(tmp_path / "m.parquet")
