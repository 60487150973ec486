"""`depthscope run --predictor DIR`: every analysis that reads predictors gets the folder, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from depthscope.analyses.component_probes import ComponentProbes
from depthscope.analyses.predictability import Predictability
from depthscope.cli import main
from depthscope.cli.run import _predicted, selected
from depthscope.errors import BadInput
from depthscope.runtime.predictor import Design, Predictor, Predictors, save_predictors
from depthscope.runtime.tiny import tiny
from depthscope.store.run import open_run

NAMES = "predictability,layer_skip,component_probes"


def test_the_folder_reaches_every_analysis_that_reads_predictors() -> None:
    settings = _predicted(NAMES, "some/folder")
    assert settings == ["predictability.predictor=some/folder", "component_probes.predictor=some/folder"]
    found = selected(NAMES, [*settings, "predictability.late=8"], "", tiny("llama").anatomy)
    assert found == [
        Predictability(predictor="some/folder", late=8), "layer_skip", ComponentProbes(predictor="some/folder"),
    ]  # fmt: skip
    assert _predicted(NAMES, "") == []


@pytest.mark.parametrize("names", ["", "layer_skip"])
def test_a_folder_that_no_analysis_reads_is_told(names: str) -> None:
    with pytest.raises(BadInput, match="none of the analyses reads predictors; name one, such as"):
        _predicted(names, "some/folder")


def test_a_run_from_the_command_line_has_r2_by_layer_and_definition(tmp_path: Path) -> None:
    model = tiny("llama")
    guess = Predictor(Design(heads=1, head_dim=4), model.anatomy.d_model)
    folder = save_predictors(tmp_path / "p", Predictors({1: guess}))
    out = tmp_path / "r"
    with pytest.raises(SystemExit) as ended:
        main([
            "run", "tiny-llama", "--analyses", "predictability", "--predictor", str(folder), "--tokens", "64",
            "--window", "16", "--out", str(out), "--no-report",
        ])  # fmt: skip
    assert not ended.value.code
    assert tuple(open_run(out)["predictability"]["r2"].axes) == ("layer", "definition")
