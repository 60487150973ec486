"""A study leaves a run folder like an audit's, and a killed one goes on from its journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from depthscope.engine.reading import Reading
from depthscope.engine.study import Work, conduct
from depthscope.errors import RunMismatch
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class Counting:
    """Counting: adds up what it counts.

    Question: How far does it count?

    Method: One step a number.

    How to read: As a number.

    What misleads: Nothing.

    Source: This test.
    """

    far: int = 3
    other: str = "a"
    taken: ClassVar[list[int]] = []
    dies_at: ClassVar[list[int]] = []

    def depends(self) -> Mapping[str, Any]:
        return {"other": self.other}

    def run(self, work: Work) -> Findings:
        total = sum(work.journal.step("count", {"k": k}, lambda k=k: self._step(k)) for k in range(self.far))
        work.progress("count", self.far, self.far)
        return Findings({"total": Measurement("total", {}, np.asarray(float(total)), "1")})

    def _step(self, k: int) -> int:
        if k in self.dies_at:
            raise KeyboardInterrupt
        self.taken.append(k)
        return k


@pytest.fixture
def reading(texts: list[str]) -> Reading:
    return Reading(texts, tokens=600, window=40)


@pytest.fixture(autouse=True)
def fresh() -> None:
    Counting.taken.clear()
    Counting.dies_at.clear()


def test_a_study_leaves_a_complete_run_with_its_words_and_parameters(
    llama: Model, reading: Reading, tmp_path: Path
) -> None:
    run = conduct("counting", Counting(), llama, reading, tmp_path / "run", command="a command")
    assert run.complete
    assert float(run["counting"].findings.measurements["total"].value) == 3.0
    assert run["counting"].text.question == "How far does it count?"
    assert run.manifest["analyses"] == {"counting": {"far": 3, "other": "a"}}
    assert run.manifest["command"] == "a command"
    assert (run.path / "inputs" / "text.parquet").exists()


def test_a_killed_study_repeats_no_finished_step(llama: Model, reading: Reading, tmp_path: Path) -> None:
    Counting.dies_at.append(2)
    with pytest.raises(KeyboardInterrupt):
        conduct("counting", Counting(), llama, reading, tmp_path / "run")
    Counting.dies_at.clear()
    assert conduct("counting", Counting(), llama, reading, tmp_path / "run").complete
    assert Counting.taken == [0, 1, 2]


def test_a_folder_of_other_parameters_is_refused(llama: Model, reading: Reading, tmp_path: Path) -> None:
    conduct("counting", Counting(), llama, reading, tmp_path / "run")
    with pytest.raises(RunMismatch, match="far"):
        conduct("counting", Counting(far=4), llama, reading, tmp_path / "run")
