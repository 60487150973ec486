"""`depthscope fit`: what it prints, what it leaves, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthscope.cli import main
from depthscope.runtime.lens_folder import load_lens
from depthscope.runtime.load import load

TEXT = ["--tokens", "1024", "--window", "32", "--evaluate", "40"]
SHORT = ["--steps", "2", "--step-tokens", "64", "--positions-per-seq", "8", "--check", "1"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["fit", *arguments])
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


def test_a_ridge_lens_is_fitted_judged_and_left_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "lens"
    code, text, errors = said(capsys, "ridge-lens", "tiny-gpt2", *TEXT, "--out", str(out))
    assert code == 0
    assert text.splitlines()[0].split() == [
        "state",
        "KL",
        "logit",
        "KL",
        "ridge",
        "top-1",
        "logit",
        "top-1",
        "ridge",
    ]
    assert [line.split()[0] for line in text.splitlines()[1:6]] == ["0", "1", "2", "3", "4"]
    assert text.splitlines()[-1] == str(out)
    assert "held-out" in errors
    assert load_lens(out, load("tiny-gpt2")).kind == "ridge"


def test_a_tuned_lens_starts_from_a_ridge_lens_and_says_its_loss_by_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "lens"
    code, _, errors = said(capsys, "tuned-lens", "tiny-gpt2", *TEXT, *SHORT, "--out", str(out), "--gain", "0")
    assert code == 0
    assert [line.split(":")[0] for line in errors.splitlines() if line.startswith("step")] == [
        "step 0",
        "step 1",
        "step 2",
    ]
    lens = load_lens(out, load("tiny-gpt2"))
    assert lens.about["parameters"]["init"] == "ridge"
    assert lens.about["parameters"]["gain"] == 0


def test_json_says_where_the_lens_is_and_how_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    how = [
        "--init",
        "zero",
        "--last",
        "--reduced",
        "vocab",
        "--reduced-tokens",
        "a,e",
        "--rho",
        "0",
        "--json",
    ]
    code, text, _ = said(capsys, "tuned-lens", "tiny-gpt2", *TEXT, *SHORT, "--out", str(tmp_path), *how)
    assert code == 0
    found = json.loads(text)
    assert found["lens"] == str(tmp_path)
    assert found["kind"] == "tuned"
    assert len(found["quality"]["kl_to_final"]["tuned"]["value"]) == 5
    assert (
        len(found["fit"]["reduced_ids"]) == 4
    )  # a, A, e, E: the plain tokenizer has no token of two characters
    card = json.loads((tmp_path / "lens.json").read_text())
    assert (card["parameters"]["best"], card["parameters"]["rho"]) == (False, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ridge-lense", "tiny-gpt2"], 2, "did you mean 'ridge-lens'"),
        (["ridge-lens", "tiny-gpt2", "--steps", "4"], 2, "--steps belongs to tuned-lens"),
        (["tuned-lens", "tiny-gpt2", "--ridge", "0.1"], 2, "--ridge belongs to ridge-lens"),
        (["ridge-lens", "tiny-gpt2", "--ridge", "small"], 2, "no number"),
        (["tuned-lens", "tiny-gpt2", "--preset", "papper"], 2, "did you mean 'paper'"),
        (["ridge-lens", "tiny-vit"], 4, "no tokenizer"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_code(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    found, _, errors = said(capsys, *arguments, "--out", str(tmp_path / "lens"))
    assert found == code
    assert message in errors
    assert not (tmp_path / "lens").exists()
