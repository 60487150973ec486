"""`depthscope choose-layer`: what it prints and leaves, and what it refuses before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthscope.cli import main
from depthscope.store.run import open_run

SHORT = ["--dtype", "float32", "--repeats", "1"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["choose-layer", *arguments])
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rows = [{"text": "ab"[k % 2] * 3 + str(k * k), "label": "ab"[k % 2]} for k in range(48)]
    path = tmp_path / "letters.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_choice_is_printed_and_its_pages_are_left(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    asked = ["tiny-llama", "--task", str(task), "--limit", "40", "--out", str(out), *SHORT]
    code, text, errors = said(capsys, *asked, "--lang", "ja")
    assert code == 0
    assert text.splitlines()[0].startswith("Take state 0 of 4 (mean pooling, final norm")
    assert text.splitlines()[-1] == str(out / "choice.ja.html")
    assert "states on" in errors
    assert {"choice.ja.html", "choice.ja.md", "report.html", "manifest.json"} <= {
        p.name for p in out.iterdir()
    }
    assert open_run(out).complete
    code, text, _ = said(capsys, *asked, "--json")
    found = json.loads(text)
    assert (code, found["state"], found["depth"], found["export"]) == (0, 0, 4, None)
    assert found["run"] == str(out)
    assert found["html"] == str(out / "choice.en.html")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--task", "nowhere.jsonl"], 2, "nowhere.jsonl"),
        (["--post", "pca"], 2, "cannot stand behind pooling"),
        (["--lang", "fr"], 2, "unknown language 'fr'"),
        (["--export", "."], 2, "exists already"),
        (["--metric", "ndcg"], 2, "score of a classification task"),
        (["--norm", "maybe"], 2, "unknown norm"),
    ],
)
def test_wrong_requests_leave_nothing(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], code: int, message: str
):
    out = tmp_path / "run"
    found, _, errors = said(capsys, "tiny-llama", "--task", str(task), "--out", str(out), *SHORT, *change)
    assert found == code
    assert message in errors
    assert not out.exists()


def test_an_export_that_cannot_be_is_refused_before_anything_is_searched(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, encoder = tmp_path / "run", tmp_path / "encoder"
    code, _, errors = said(
        capsys, "tiny-gpt2", "--task", str(task), "--out", str(out), "--export", str(encoder), *SHORT
    )
    assert code == 4
    assert "is no tokenizer of transformers" in errors
    assert not encoder.exists()
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--pooling", "mean_no_first"], 4, "no pooling like"),
        (["--post", "pca-999"], 2, "keeps more directions"),
    ],
)
def test_a_recipe_that_no_state_can_be_exported_with_is_refused_before_anything_is_searched(
    task: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    code: int,
    message: str,
):
    monkeypatch.setattr("depthscope.advise.layer_modules.exports", lambda _: None)
    asked = ["--task", str(task), "--out", str(tmp_path / "run"), "--export", str(tmp_path / "encoder")]
    found, _, errors = said(capsys, "tiny-gpt2", *asked, *SHORT, *change)
    assert found == code
    assert message in errors
    assert not (tmp_path / "run").exists()
