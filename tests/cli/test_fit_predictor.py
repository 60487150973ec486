"""`depthscope fit predictor`: what it prints, what it leaves, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthscope.cli import main
from depthscope.runtime.load import load
from depthscope.runtime.predictor import load_predictors
from depthscope.store.run import open_run

TEXTS = [
    f"{who} counted {n} herons along the old canal before the evening came."
    for n, who in enumerate("ABCDEFGH")
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["fit", *arguments])
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in TEXTS))
    return path


def test_predictors_are_trained_judged_and_left_beside_their_numbers(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    asked = ["predictor", "tiny-llama", "--layers", "1,-1", "--steps", "2", "--rows", "2", "--window", "24"]
    more = [
        "--text",
        str(text),
        "--set",
        "heads=2",
        "--set",
        "rope=false",
        "--closed",
        "200",
        "--evaluate",
        "48",
    ]
    code, printed, errors = said(
        capsys, *asked, *more, "--judge", str(text), "--reserve", "0", "--out", str(out)
    )
    assert code == 0, errors
    lines = printed.splitlines()
    assert lines[0].split()[:3] == ["layer", "R2", "predictor"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "3"]
    assert lines[-1] == str(out)
    assert "2 steps of 2 windows of 24 tokens" in errors
    predictors = load_predictors(out, load("tiny-llama"))
    assert predictors.states == (2, 4)
    assert (predictors.at(2).design.heads, predictors.at(2).design.rope) == (2, False)
    found = open_run(out)["predictor"]
    assert f"{found['guess_r2'].at(layer=1, variant='predictor'):.4f}" == lines[1].split()[1]
    assert found.text.question.startswith("How much of a state")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["predictor", "--layers", "1,4"], "[4] do not exist, the model has layers 0 to 3"),
        (["predictor", "--optimiser", "sgd"], "--optimiser belongs to tuned-lens; a predictor has none"),
        (["predictor", "--set", "head=2"], "did you mean 'heads'"),
        (["predictor", "--set", "heads"], "NAME=VALUE"),
        (["predictor", "--set", "heads=two"], "'two' is no int"),
        (["predictor", "--preset", "tiny"], "unknown preset 'tiny'"),
        (["ridge-lens", "--rows", "2"], "--rows belongs to predictor"),
        (["tuned-lens", "--set", "heads=2"], "--set belongs to predictor"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    asked: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    kind, *flags = asked
    code, _, errors = said(capsys, kind, "tiny-llama", *flags)
    assert code == 2
    assert words in errors


def test_a_text_shorter_than_two_windows_is_refused(
    text: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """All texts have fewer than 256 tokens, so windows differ in length and hardly two are full."""
    code, _, errors = said(
        capsys, "predictor", "tiny-llama", "--text", str(text), "--tokens", "70", "--out", str(tmp_path / "r")
    )
    assert code == 2
    assert "full window" in errors
