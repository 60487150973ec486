"""Data are found by path or under the data folder, and a bad line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from depthscope.errors import BadInput
from depthscope.materials.data import ROOT, data_path, json_rows


def test_a_path_is_taken_as_given_before_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts/a.jsonl").write_text('{"a": 1}\n\n{"a": 2}')
    monkeypatch.delenv(ROOT, raising=False)
    with pytest.raises(BadInput, match=f"no data at facts/a.jsonl, and {ROOT} names no data folder"):
        data_path("facts/a.jsonl")
    monkeypatch.setenv(ROOT, str(tmp_path))
    assert data_path("facts/a.jsonl") == tmp_path / "facts/a.jsonl"
    assert data_path(tmp_path / "facts/a.jsonl") == tmp_path / "facts/a.jsonl"
    assert [row["a"] for row in json_rows("facts/a.jsonl")] == [1, 2]
    with pytest.raises(BadInput, match="not under"):
        data_path("facts/b.jsonl")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\nnot json', "x.jsonl line 2 is not JSON"),
        (b"[1]", "x.jsonl line 1 is a list"),
        (b'{"a": "\xff"}', "x.jsonl is not UTF-8: byte 7 is 0xff"),
    ],
)
def test_a_line_that_is_no_object_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=said):
        list(json_rows(tmp_path / "x.jsonl"))


def test_without_a_source_the_packaged_file_is_read() -> None:
    assert "text" in next(iter(json_rows("", "sample.jsonl")))


def test_a_folder_is_no_file_of_rows(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        list(json_rows(tmp_path))
