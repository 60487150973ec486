"""`steer` and `fit predictor-sweep` from the command line: what they read of their flags, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from depthscope.cli import main
from depthscope.cli.fit_sweep import settings
from depthscope.errors import BadInput, UnknownName
from depthscope.runtime.predictor import Design, Predictor, Predictors, save_predictors
from depthscope.runtime.tiny import tiny


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--json"])
    return int(stop.value.code or 0), json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("steer") / "domains.jsonl"
    rows = [
        {"id": f"{label}{k}", "kind": label, "text": f"{k}{word} " * 12}
        for label, word in (("a", "sea"), ("b", "law")) for k in range(6)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_steer_leaves_a_run(domains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny("llama", torch.float32)
    folder = save_predictors(
        tmp_path / "p", Predictors({2: Predictor(Design(), model.anatomy.d_model).eval()})
    )
    code, found = said(
        capsys, "steer", "tiny-llama", "--predictor", str(folder), "--text", str(domains), "--label", "kind",
        "--window", "32", "--prompt", "16", "--new", "0", "--pairs", "1", "--reserve", "0", "--levels", "0.5",
        "--strengths", "0.3", "--no-report", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert code == 0, found
    assert Path(found["run"], "measurements", "component_steering", "swap_kl.parquet").is_file()
    assert {row["change"] for row in found["effects"]} == {"swap predictable", "swap novel", "swap random"}
    assert found["towards_other"] == {}


def test_steer_without_predictors_says_how_to_train_them(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = said(capsys, "steer", "tiny-llama")
    assert code == 2
    assert "depthscope fit predictor" in found["message"]


def test_a_sweep_has_no_flag_of_a_single_training(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = said(capsys, "fit", "predictor-sweep", "tiny-llama", "--variance")
    assert code == 2
    assert "--variance belongs to predictor" in found["message"]


def test_settings_of_a_sweep_are_read_as_their_defaults_are() -> None:
    factors, plain = settings(["heads=8,32", "kinds=gru,linear", "rope=false", "grid=full", "memory=0.5"])
    assert factors == {"heads": (8, 32), "kinds": ("gru", "linear"), "rope": (False,)}
    assert plain == {"grid": "full", "memory": 0.5}
    for wrong in ("heads", "heads=many", "rope=maybe"):
        with pytest.raises(BadInput):
            settings([wrong])
    with pytest.raises(UnknownName, match="heads"):
        settings(["head=8"])
