"""Killed at any byte and resumed by the same command: the same bytes as a run that nobody touched."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from depthscope.store.run import open_run

Files = Callable[[Path], dict[str, bytes]]
Order = Callable[..., dict[str, Any]]
KILLED = -9


@pytest.fixture(scope="module")
def order() -> Iterator[Order]:
    """Have an audit run in a process of its own, to be killed as ordered."""
    script = str(Path(__file__).with_name("toys.py"))
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def sent(out: Path, do: str = "audit", **more: Any) -> dict[str, Any]:
            print(json.dumps({"do": do, "out": str(out), **more}), file=server.stdin)
            return json.loads(server.stdout.readline())

        yield sent
        server.stdin.close()


@pytest.fixture(scope="module")
def untouched(
    order: Order, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """The bytes of an uninterrupted run and the seconds it took."""
    out = tmp_path_factory.mktemp("untouched") / "run"
    ended = order(out)
    assert ended["code"] == 0
    return files(out), ended["seconds"]


def finished(order: Order, out: Path, expected: dict[str, bytes], files: Files) -> None:
    assert order(out)["code"] == 0
    assert files(out) == expected
    assert open_run(out).complete
    assert list(out.rglob("*.partial")) == [], "what a kill left half written is replaced by the resumed run"


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte(
    order: Order, untouched: tuple[dict[str, bytes], float], files: Files, tmp_path: Path
):
    expected, seconds = untouched
    moments, kills, run = random.Random(0), 0, 0
    while kills < 10:
        out = tmp_path / f"run-{run}"
        ended = order(out, after=moments.uniform(0.02, 0.7) * seconds)
        kills += ended["code"] == KILLED
        if ended["code"] == 0:  # it had finished before its moment came: begin another folder
            assert files(out) == expected
            run += 1
    finished(order, tmp_path / f"run-{run}", expected, files)


POINTS = (
    ("half", "manifest.json", 1),
    ("before", "manifest.json", 2),
    ("half", "inputs/text.parquet", 1),
    ("half", ".npz", 1),
    ("after", ".npz", 3),
    ("before", ".npz", 2),
    ("half", ".npz", 3),
    ("half", ".parquet", 4),
    ("after", ".parquet", 9),
    ("half", "results/logit_lens.json", 1),
    ("after", "results/layer_skip.json", 1),
    ("before", "manifest.json", 2),
    ("half", "manifest.json", 2),
)
"""In the order in which a run meets them, so that each resumed run comes a little further in the same folder."""


def test_kills_inside_writes_and_around_renames_change_no_byte(
    order: Order, untouched: tuple[dict[str, bytes], float], files: Files, tmp_path: Path
):
    for point in POINTS:
        assert order(tmp_path / "run", point=point)["code"] == KILLED, f"{point} was not met"
    finished(order, tmp_path / "run", untouched[0], files)


def test_an_interrupt_from_the_keyboard_can_be_resumed(
    order: Order, untouched: tuple[dict[str, bytes], float], files: Files, tmp_path: Path
):
    for part in (0.4, 0.2, 0.1, 0.05):
        out = tmp_path / f"run-{part}"
        if order(out, after=part * untouched[1], signal="SIGINT")["code"] != 0:
            finished(order, out, untouched[0], files)
            return
    pytest.fail("the run ended before every one of four moments of interruption")


def test_the_same_command_on_a_finished_run_does_nothing_again(
    order: Order, untouched: tuple[dict[str, bytes], float], files: Files, tmp_path: Path
):
    out = tmp_path / "run"
    finished(order, out, untouched[0], files)
    kept = {
        p: p.stat().st_mtime_ns
        for name in ("parts", "measurements", "results")
        for p in (out / name).rglob("*")
    }
    finished(order, out, untouched[0], files)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_workers_end_with_a_coordinator_that_is_killed(order: Order, tmp_path: Path):
    assert order(tmp_path / "pid", do="orphan", after=1.0)["code"] == KILLED
    worker = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not _alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    pytest.fail("the worker lived on for five seconds after its coordinator was killed")


def _alive(pid: int) -> bool:
    """A process that is there and no zombie (nobody may be left to collect it)."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
