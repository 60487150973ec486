"""`depthscope pair` and `depthscope checkpoints`: from a text to curves over the steps of a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthscope.cli import main
from depthscope.store.run import open_run

SMALL = [
    "--steps", "1", "--rows", "2", "--window", "16", "--vocabulary", "257", "--d-model", "8", "--heads", "2",
    "--transformer-layers", "1", "--mamba-layers", "2", "--cells", "2",
]  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("text")
    for k in range(9):
        (folder / f"{k}.txt").write_text(
            f"Nine herons stood by canal number {k}, and one of them slept. " * 2
        )
    return str(folder)


def test_a_pair_is_trained_and_followed(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pair = tmp_path / "pair"
    code, out, _ = said(capsys, "pair", "--text", text, *SMALL, "--out", str(pair), "--json")
    assert code == 0
    assert set(json.loads(out)["loss"]) == {"transformer/seed-0", "mamba/seed-0"}
    asked = [
        "--folder",
        str(pair / "transformer" / "seed-0"),
        "--text",
        text,
        "--tokens",
        "160",
        "--window",
        "16",
    ]
    asked += [
        "--analyses",
        "corpus_statistics",
        "--set",
        "corpus_statistics.sample=9",
        "--no-report",
        "--json",
    ]
    code, out, _ = said(capsys, "checkpoints", *asked, "--out", str(tmp_path / "run"))
    assert code == 0
    assert json.loads(out)["steps"] == [0, 1]
    result = open_run(tmp_path / "run")["checkpoints"]
    assert result.parameters["analyses"]["corpus_statistics"]["sample"] == 9
    assert result["norm_median"].axes["step"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "asked",
    [[], ["some/model"], ["--revisions", "step1"], ["some/model", "--folder", "x", "--revisions", "step1"]],
)
def test_checkpoints_wants_revisions_or_a_folder(asked: list[str], capsys: pytest.CaptureFixture[str]):
    code, _, errors = said(capsys, "checkpoints", *asked)
    assert code == 2
    assert "--folder DIR" in errors


def test_an_unknown_revision_of_a_model_out_of_reach_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, errors = said(
        capsys, "checkpoints", "who/what", "--revisions", "step1,main=9", "--out", str(tmp_path / "run")
    )
    assert code == 4
    assert "none of the 2 checkpoints (step1 to main)" in errors
