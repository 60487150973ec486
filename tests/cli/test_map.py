"""`depthscope map`: what it prints and leaves, and what it refuses before anything is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthscope.cli import main
from depthscope.store.run import open_run

SHORT = ["--dtype", "float32", "--tokens", "1024", "--window", "32", "--held-out", "0.3", "--ridge", "0.001"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["map", *arguments])
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


def test_another_model_is_mapped_onto_and_the_run_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    asked = [
        "--sources",
        "1,3",
        "--targets",
        "0,1,3",
        "--differences",
        "--rows",
        "rms",
        "--width",
        "8",
        "--json",
    ]
    code, text, _ = said(capsys, "tiny-gpt2", "tiny-llama", *SHORT, *asked, "--out", str(out))
    assert code == 0
    found = json.loads(text)
    assert found["run"] == str(out)
    assert set(found["best_source"]) <= {1, 3}
    assert "tiny-gpt2 onto tiny-llama" in found["notes"][0]
    run = open_run(out)
    assert run.complete
    assert dict(run["linear_maps"].parameters) | {"memory": 0} == {
        "other": "tiny-llama", "sources": [1, 3], "targets": [0, 1, 3], "differences": True, "rows": "rms", "width": 8,
        "ridge": [0.001], "held_out": 0.3, "memory": 0,
    }  # fmt: skip


def test_a_model_onto_itself_prints_its_diagonal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, text, errors = said(capsys, "tiny-gpt2", *SHORT, "--out", str(tmp_path / "run"))
    assert code == 0
    assert {line.split()[0] for line in text.splitlines()} >= {"slope", "sharpness", "neighbour_share"}
    assert text.splitlines()[-1] == str(tmp_path / "run")
    assert "training positions" in errors


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["tiny-llama", "--control", "itself"], "give one of them"),
        (["--control", "streched"], "stretched"),
        (["--sources", "1,two"], "write it as 1,2,3"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str], asked: list[str], words: str
):
    code, _, errors = said(capsys, "no-such-model", *asked)
    assert code == 2
    assert words in errors
