"""`depthscope similarity`: what it prints and leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthscope.cli import main
from depthscope.store.run import open_run

SHORT = ["--texts", "9", "--words", "3", "--poolings", "mean"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["similarity", *arguments])
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


def test_two_models_are_compared_and_the_run_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    code, text, _ = said(capsys, "tiny-gpt2", "tiny-llama", *SHORT, "--json", "--out", str(out))
    assert code == 0
    found = json.loads(text)
    assert found["same_depth"][0] <= 1
    assert "tiny-gpt2 (down) and tiny-llama (across), 9 texts" in found["notes"][0]
    parameters = dict(open_run(out)["model_similarity"].parameters)
    assert (parameters["other"], parameters["texts"], parameters["poolings"]) == ("tiny-llama", 9, ["mean"])
    code, text, errors = said(capsys, "tiny-gpt2", "tiny-llama", *SHORT, "--out", str(out))
    assert code == 0
    assert text.splitlines()[-1] == str(out)
    assert "compared in" in errors


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--other-revision", "step1"], "belongs to OTHER"),
        (["--poolings", "mena"], "mean"),
        (["--text", "nowhere.txt"], "no data at"),
    ],
)
def test_what_cannot_be_is_told(given: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = said(capsys, "tiny-gpt2", *given)
    assert code != 0
    assert words in errors
