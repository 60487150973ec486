"""`depthscope fit frequency`: one file that an audit of the same model takes, and no other model's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from depthscope.cli import main
from depthscope.materials.frequency import FrequencyTable
from depthscope.runtime.load import load

TEXT = "the tide came in, and the tide went out. " * 9


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["fit", "frequency", *arguments])
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return str(path)


def test_a_text_is_counted_into_one_file(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "new" / "t.npz"
    code, printed, warned = said(capsys, "tiny-gpt2", "--text", text, "--out", str(out))
    assert (code, printed.strip()) == (0, str(out))
    assert "less than 5,000,000 tokens" in warned
    ids = load("tiny-gpt2").tokenizer.encode(TEXT)
    np.testing.assert_array_equal(FrequencyTable.load(out).counts, np.bincount(ids, minlength=96))


def test_counting_stops_at_the_tokens_asked_for_and_speaks_json(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "t.npz"
    code, printed, _ = said(
        capsys, "tiny-gpt2", "--text", text, "--tokens", "50", "--out", str(out), "--json"
    )
    found = json.loads(printed)
    assert (code, found["tokens"], found["corpus"]) == (0, 50, "text.txt")
    assert found["digest"] == FrequencyTable.load(out).digest


def test_flags_of_lenses_and_models_without_text_are_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for flags, message in (
        (["tiny-gpt2", "--lr", "0.1"], "--lr belongs to tuned-lens"),
        (["tiny-gpt2", "--ridge", "0.1"], "--ridge belongs to ridge-lens"),
        (["tiny-vit"], "has no tokenizer to count with"),
        (["tiny-gpt2", "--tokens", "0"], "0 tokens leave nothing"),
    ):
        code, _, error = said(capsys, *flags, "--text", text, "--out", str(tmp_path / "t.npz"))
        assert code > 0
        assert message in error
    assert not (tmp_path / "t.npz").exists()
