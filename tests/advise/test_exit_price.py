"""The price of exits as a study: it measures what the exits do, and the verdict can say each of three things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthscope.advise.exit import Exits, written
from depthscope.advise.exit_price import ExitPrice, verdict
from depthscope.cli.exit import FALLBACK, calibrated
from depthscope.engine.reading import Reading
from depthscope.engine.study import conduct
from depthscope.errors import BadInput, Refused
from depthscope.results.measurement import Measurement
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store.run import Run

TEXTS = [f"a little text number {k} about {'boats and tides ' * (k + 1)}" for k in range(5)]
READING = Reading(TEXTS, tokens=200, window=24)
STUDY = ExitPrice((0.0, 0.021, 1.0), floor=1, prompts=3, prompt=5, tokens=4, drafts=(1,))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", torch.float64, seed=3)


@pytest.fixture(scope="module")
def run(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("exit") / "run"
    return conduct("exit_price", STUDY, model, READING, out)


def test_states_and_savings_are_those_of_the_texts_that_are_written(run: Run, model: Model) -> None:
    found = run["exit_price"].findings.measurements
    last, read = model.anatomy.n_layers, READING.windows(model)
    ids = [next(w.ids for w in read.items if w.document == name)[:5] for name in read.documents[:3]]
    for place, confidence in enumerate(STUDY.confidence):
        states = [written(model, p, Exits(1, confidence), 4).states for p in ids]
        np.testing.assert_allclose(found["exit_state"].value[place], np.mean(states))
        np.testing.assert_allclose(found["gross_saving"].value[place], 1 - np.mean(states) / last)
    assert np.asarray(found["net_saving"].n).tolist() == [3, 3, 3]


def test_who_never_leaves_writes_the_whole_models_text_and_pays_for_looking(run: Run) -> None:
    found = run["exit_price"].findings.measurements
    never = 2
    assert found["agreement"].value[never] == 1
    assert found["gross_saving"].value[never] == 0
    assert found["net_saving"].value[never] < 0
    spent = -float(found["net_saving"].value[never])
    assert f"{spent:.1%} more operations are spent" in run["exit_price"].findings.notes[1 + never]
    for name in ("damage", "copy_cost"):
        np.testing.assert_allclose(found[name].value[never], 0, atol=1e-12)


def test_drafting_leaves_the_text_as_it_is(run: Run) -> None:
    found = run["exit_price"].findings.measurements
    assert found["same_text"].value.tolist() == [1.0]
    assert found["speedup"].value[0] > 0


def exits_of(net: tuple[float, float], damage: tuple[float, float]) -> list[Measurement]:
    axes = {"confidence": np.asarray([0.5])}
    found = []
    for name, (low, high) in (("net_saving", net), ("damage", damage)):
        ends = [np.asarray([end]) for end in ((low + high) / 2, low, high)]
        found.append(
            Measurement(
                name, axes, ends[0], "1", ends[1], ends[2], np.asarray([9]), np.asarray([9]), missing="-"
            )
        )
    return found


@pytest.mark.parametrize(
    ("net", "damage", "said"),
    [
        ((0.1, 0.2), (0.0, 0.05), "Early exits pay at confidence 0.5"),
        ((-0.3, -0.1), (0.0, 0.05), "Early exits do not pay"),
        ((0.1, 0.2), (0.2, 0.5), "Early exits do not pay"),
        ((-0.1, 0.2), (0.0, 0.05), "Not decided"),
        ((0.1, 0.2), (0.05, 0.3), "Not decided"),
        ((np.nan, np.nan), (0.0, 0.05), "Not decided"),
    ],
)
def test_the_verdict_follows_the_intervals(
    net: tuple[float, float], damage: tuple[float, float], said: str
) -> None:
    assert verdict((0.5,), exits_of(net, damage), 0.1).startswith(said)


@pytest.mark.parametrize(
    "wrong", [{"confidence": ()}, {"confidence": (1.5,)}, {"prompts": 0}, {"floor": -1}, {"allowed": -0.1}]
)
def test_wrong_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        ExitPrice(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"floor": 99}, "floor=99, but .* has states 0 to"),
        ({"drafts": (1, 9)}, r"drafts=\[9\]: .* takes 1 to"),
    ],
)
def test_a_depth_that_the_model_does_not_have_is_refused_before_anything_is_written(
    model: Model, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        ExitPrice(**wrong).must_fit(model)


def test_a_model_that_cannot_draft_is_priced_without_drafts_unless_they_are_named(tmp_path: Path) -> None:
    model, plain = tiny("gpt2", torch.float32), replace(STUDY, drafts=())
    found = conduct("exit_price", plain, model, READING, tmp_path / "run")["exit_price"].findings
    assert "agreement" in found.measurements
    assert "speedup" not in found.measurements
    assert found.notes[len(STUDY.confidence) + 1].startswith("Drafts by the first layers were not tried: ")
    with pytest.raises(Refused, match="cannot let the first layers"):
        conduct("exit_price", STUDY, model, READING, tmp_path / "named")


def test_a_text_without_a_document_of_the_length_of_a_prompt_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no document of .* has 500 tokens"):
        conduct(
            "exit_price",
            ExitPrice(prompt=500),
            model,
            Reading(TEXTS, tokens=200, window=24),
            tmp_path / "run",
        )


class _Given(dict[str, Any]):
    """A stand-in for a run with thresholds."""

    def __init__(self, values: list[float]) -> None:
        axes = {"policy": np.asarray(["prob"]), "every": np.asarray([1]), "target": np.arange(len(values))}
        found = Measurement(
            "threshold", axes, np.asarray(values).reshape(1, 1, -1), "1", missing="none is safe"
        )
        findings = type("Findings", (), {"measurements": {"threshold": found}})()
        super().__init__(early_exit=type("Result", (), {"findings": findings})())


def test_confidences_are_the_calibrated_thresholds_where_any_is_safe() -> None:
    assert calibrated(_Given([0.7, np.nan, 0.7, 0.91])) == (0.7, 0.91)  # pyright: ignore[reportArgumentType]
    assert calibrated(_Given([np.nan, np.nan])) == FALLBACK  # pyright: ignore[reportArgumentType]
