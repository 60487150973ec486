"""`depthscope gates`, `registers` and `explicit-bias`: what they print and leave, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from depthscope.cli import main
from depthscope.engine.atlas_scores import imported
from depthscope.store.run import open_run


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


@pytest.fixture(autouse=True)
def _quick(signatures_unchecked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with signatures_unchecked(), mock.patch("depthscope.engine.study.verified", return_value=[]):
        yield


def test_gates_leave_a_report_and_a_table_that_an_atlas_joins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    short = [
        "--steps",
        "1",
        "--passkeys",
        "1",
        "--words",
        "1",
        "--recent",
        "8",
        "--window",
        "64",
        "--tokens",
        "256",
    ]
    code, text, _ = said(capsys, "gates", "tiny-llama", *short, "--json", "--out", str(out))
    assert code == 0
    found = json.loads(text)
    assert Path(found["report"]).exists()
    gate = open_run(out)["duo_gates"]["gate"].value
    np.testing.assert_allclose(imported(found["table"], 4, 4)["gate"][0], gate, rtol=1e-5)
    sensitivity = open_run(out)["duo_gates"]["sensitivity"]
    assert sensitivity.n is not None
    assert set(sensitivity.n.ravel().tolist()) == {4}


def test_registers_train_encoders_or_read_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--counts", "0,1", "--steps", "2", "--layers", "1", "--heads", "1", "--d-model", "4"]
    code, text, _ = said(capsys, "registers", *small, "--out", str(tmp_path / "made"))
    assert code == 0
    assert "1 registers" in text
    assert (tmp_path / "made" / "report.html").exists()
    code, text, _ = said(
        capsys, "registers", "tiny-vit", "--pictures", "8", "--json", "--out", str(tmp_path / "read")
    )
    assert code == 0
    assert "image_registers" in open_run(tmp_path / "read")


def test_photos_without_a_model_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = said(capsys, "registers", "--images", "photos")
    assert code != 0
    assert "no model is named" in errors


def test_explicit_bias_trains_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--steps", "1", "--layers", "1", "--heads", "1", "--d-model", "4", "--length", "12"]
    code, text, _ = said(capsys, "explicit-bias", *small, "--out", str(tmp_path / "made"))
    assert code == 0
    assert "explicit pair" in text
