"""The command line on a real model, killed three times and started again: the same bytes as an untouched run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from depthscope.store.run import open_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Files = Callable[[Path], dict[str, bytes]]
COMMAND = (
    "-m", "depthscope", "run", "smollm2-135m", "--dtype", "float32", "--tokens", "2048", "--no-report",
    "--analyses", "logit_lens,residual_contribution,layer_skip", "--set", "logit_lens.positions=128",
    "--set", "layer_skip.tokens=128", "--set", "layer_skip.sublayer_tokens=64",
)  # fmt: skip


def started(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *COMMAND, "--out", str(out)], stdout=subprocess.DEVNULL)


def test_smollm2_killed_three_times_and_resumed_gives_the_same_bytes(files: Files, tmp_path: Path) -> None:
    begun = time.perf_counter()
    assert started(tmp_path / "whole").wait() == 0
    seconds = time.perf_counter() - begun
    out, kills, part = tmp_path / "killed", 0, 0.55
    while kills < 3:
        with started(out) as process:
            time.sleep(part * seconds)
            process.kill()
        kills += process.returncode != 0
        if (
            process.returncode == 0
        ):  # it had finished before its moment came: begin again, and kill it earlier
            shutil.rmtree(out)
            kills, part = 0, part / 2
    assert not open_run(out).complete
    assert started(out).wait() == 0
    assert open_run(out).complete
    assert files(out) == files(tmp_path / "whole")
