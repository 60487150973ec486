"""Transfer: the started network begins where the other ended, and first steps are counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from depthscope.cli import main
from depthscope.errors import BadInput
from depthscope.fits.iteration import IterationTraining
from depthscope.fits.iteration_course import IterationCourse, right_sequences
from depthscope.fits.iteration_transfer import IterationTransfer, _findings
from depthscope.runtime.load import load
from depthscope.store.run import open_run


def test_the_first_step_is_where_nine_tenths_are_right_from_then_on():
    right = np.array([[[0.95, 0.2], [0.5, 0.95], [0.92, 1.0]], [[0.1, 0.95], [0.95, 1.0], [1.0, 0.3]]])
    found = _findings(right, ["after", "random weights"], (0, 50, 100), 2).measurements
    np.testing.assert_array_equal(found["first_step"].value, [[100, 50], [50, np.nan]])
    share = found["right"]
    assert share.low is not None
    assert share.high is not None
    z, n, p = 1.959964, 256, 128 / 256  # Wilson's interval, by hand
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
    np.testing.assert_allclose(share.low[0, 1, 0], middle - half / (1 + z * z / n), rtol=1e-5)


def test_the_verb_trains_after_another_network_and_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    course = IterationCourse("copy", 3, (), 1, 1, 8, steps=1, rows=4, every=1)
    start = IterationTraining(course).run(tmp_path / "copy") / "step-000001"
    sizes = [
        "--layers",
        "1",
        "--d-model",
        "8",
        "--longest",
        "3",
        "--steps",
        "1",
        "--every",
        "1",
        "--rows",
        "4",
    ]
    asked = ["iterate", "parity", "--start", str(start), "--beside-scratch", *sizes, "--json"]
    with pytest.raises(SystemExit) as end:
        main([*asked, "--out", str(tmp_path / "run")])
    assert not end.value.code
    assert Path(json.loads(capsys.readouterr().out)["report"]).exists()
    right = open_run(tmp_path / "run")["iteration_transfer"]["right"]
    assert right.axes["variant"].tolist() == ["after step-000001", "random weights"]
    net = load(str(start), dtype="float32").net
    for level in (1, 2, 3):
        assert right.at(variant="after step-000001", step=0, level=level) == right_sequences(
            net, "parity", level
        )


def test_nothing_to_start_from_is_refused():
    with pytest.raises(BadInput, match="to start from is needed"):
        IterationTransfer(start="")
