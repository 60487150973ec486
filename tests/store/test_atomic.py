"""A file is whole or not there, whatever goes wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from depthscope.errors import StoreError, StoreFull
from depthscope.store import atomic


def test_bytes_arrive_whole_and_nothing_else_stays(tmp_path: Path):
    atomic.write_bytes(tmp_path / "deep" / "a.bin", b"\x00\xff")
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"\x00\xff"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.bin"]


def test_an_error_inside_the_block_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def stop_halfway():
        with atomic.replacing(path) as file:
            file.write(b"half of the new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_halfway()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOSPC, StoreFull, "make room"),
        (errno.EDQUOT, StoreFull, "make room"),
        (errno.EACCES, StoreError, "--out"),
        (errno.EROFS, StoreError, "--out"),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_disk_keeps_the_old_file_and_names_path_and_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[StoreError],
    remedy: str,
    step: str,
):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*_: object):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "fsync", fail) if step == "fsync" else (Path, "replace", fail)))
    with pytest.raises(kind) as caught:
        atomic.write_bytes(path, b"new")
    assert type(caught.value) is kind
    assert str(path) in str(caught.value)
    assert remedy in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_really_full_disk_is_store_full(tmp_path: Path):
    (tmp_path / ".a.bin.partial").symlink_to("/dev/full")  # every write to it says: no space left on device
    with pytest.raises(StoreFull, match=r"a\.bin"):
        atomic.write_bytes(tmp_path / "a.bin", b"x" * 10_000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_needed_is_a_store_error(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(StoreError, match="--out"):
        atomic.write_bytes(tmp_path / "a" / "b.bin", b"x")
    with pytest.raises(StoreError, match="--out"):
        atomic.make_folder(tmp_path / "a" / "b")


def test_json_keeps_order_and_refuses_nan(tmp_path: Path):
    path = tmp_path / "a.json"
    atomic.write_json(path, {"b": 1, "a": "ü"})
    assert path.read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "ü"\n}\n'
    assert atomic.read_json(path) == {"b": 1, "a": "ü"}
    with pytest.raises(StoreError, match="null"):
        atomic.write_json(path, {"a": float("nan")})
    assert atomic.read_json(path) == {"b": 1, "a": "ü"}


@pytest.mark.parametrize("content", ["[1]", "{", "\xff"])
def test_json_that_is_no_object_is_a_store_error(tmp_path: Path, content: str):
    (tmp_path / "a.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StoreError, match=r"a\.json"):
        atomic.read_json(tmp_path / "a.json")
