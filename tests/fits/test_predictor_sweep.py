"""A sweep over predictors: which designs there are, ridge solutions by hand, planted agreement, resuming, refusals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.engine.study import Work
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.fits import sweep_bench
from depthscope.fits.predictor_course import Course
from depthscope.fits.predictor_sums import Scale
from depthscope.fits.predictor_sweep import PredictorSweep
from depthscope.fits.sweep_bench import Remembering
from depthscope.fits.sweep_designs import Factors, designs, name_of
from depthscope.fits.sweep_findings import AGAIN, Swept
from depthscope.fits.sweep_probes import ProbeTable, Probing
from depthscope.fits.sweep_ridge import lagged, solve
from depthscope.fits.teacher import Streams
from depthscope.materials.window import Window
from depthscope.results.result import Findings
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Design, Predictor
from depthscope.runtime.tiny import tiny

FEW: dict[str, Any] = {
    "kinds": ("attention", "linear"), "layers": (1,), "heads": (2,), "head_dims": (8,), "windows": (0, 1), "lags": (2,),
    "rope": (True,),
}  # fmt: skip
SMALL: dict[str, Any] = {
    "layers": (0, 3),
    "factors": FEW,
    "steps": 4,
    "rows": 4,
    "held_out": 0.3,
    "compared": 24,
}


def labelled(folder: Path) -> str:
    """Documents of two kinds, of which enough are among those that nothing is trained on."""
    path = folder / "labelled.jsonl"
    rows = [
        {"text": f"{number} {word} " * 12, "label": word}
        for number in range(30)
        for word in ("boats", "trees")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ran(study: PredictorSweep, model: Model, reading: Reading, path: Path) -> tuple[Findings, Work]:
    windows = reading.windows(model)
    kind, units = windows.units()
    work = Work(model, windows, units, kind, Journal(path / "journal", model.name, windows.hash), path)
    return study.run(work), work


@pytest.fixture(scope="module")
def swept(
    model: Model, reading: Reading, tmp_path_factory: pytest.TempPathFactory, signatures_unchecked: Any
) -> tuple[Findings, Work]:
    folder = tmp_path_factory.mktemp("sweep")
    SMALL["probed"], SMALL["source"] = 12, labelled(folder)
    with signatures_unchecked():
        return ran(PredictorSweep(**SMALL), model, reading, folder)


def test_one_thing_changes_at_a_time_or_everything_is_combined() -> None:
    around = designs(Factors(), "around", "standard", "gain")
    assert next(iter(around)) == "attention 1x8x32, all, rope"
    assert set(around) == {
        "attention 1x8x32, all, rope", "mlp 1x8x32, all, rope", "gru 1x128", "linear, 1", "linear, 4",
        "attention 2x8x32, all, rope", "attention 4x8x32, all, rope", "attention 1x32x32, all, rope",
        "attention 1x8x128, all, rope", "attention 1x8x32, 1, rope", "attention 1x8x32, 4, rope",
        "attention 1x8x32, 16, rope", "attention 1x8x32, 64, rope", "attention 1x8x32, all, no positions",
    }  # fmt: skip
    full = designs(Factors(), "full", "standard", "gain")
    assert len(full) == 2 * 3 * 2 * 2 * 5 * 2 + 3 * 3 + 2  # two units of 8x128 and 32x32 are the same
    assert all(name == name_of(design) for name, design in full.items())
    assert {d.norm for d in full.values()} == {"standard"}
    assert {d.residual for d in full.values() if d.kind != "linear"} == {"gain"}


def test_lagged_inputs_stand_as_the_linear_predictor_reads_them() -> None:
    net = Predictor(Design(kind="linear", norm="none", residual="none", window=3), 4)
    torch.nn.init.normal_(net.blocks[0].out.weight)
    x = torch.randn(2, 6, 4)
    wanted = torch.nn.functional.linear(lagged(x, 3), net.blocks[0].out.weight)
    torch.testing.assert_close(net(x), wanted)
    torch.testing.assert_close(lagged(x, 1), x)


def test_a_solved_linear_predictor_finds_a_planted_recurrence() -> None:
    torch.manual_seed(3)
    one, two = torch.randn(2, 4, 4) / 4
    windows = [Window(k, str(k), tuple(range(20))) for k in range(40)]
    rows = torch.randn(40, 20, 4)
    for t in range(2, 20):
        rows[:, t] = rows[:, t - 1] @ one + rows[:, t - 2] @ two + 0.5 + 0.001 * torch.randn(40, 4)
    scale = {1: Scale(torch.zeros(4), torch.ones(4), 1.0, 2.0)}
    net = Predictor(Design(kind="linear", residual="none", window=2, norm="none"), 4)

    def teach(some: Any) -> Streams:
        return Streams(tuple(some), torch.zeros(len(some), 20), {1: rows[[w.index for w in some]]})

    solve({1: net}, scale, windows, Course(rows=8, skip_first=2, drop_sink=0.0), teach)
    found = net.blocks[0].out.weight.detach().view(4, 4, 2)
    torch.testing.assert_close(found[..., 1].T, one, atol=2e-3, rtol=0)
    torch.testing.assert_close(found[..., 0].T, two, atol=2e-3, rtol=0)
    torch.testing.assert_close(net.blocks[0].out.bias.detach(), torch.full((4,), 0.5), atol=2e-3, rtol=0)


def planted(lengths: np.ndarray, expected: torch.Tensor) -> Swept:
    """Designs a, b: the same expectations turned, other lengths in the given order."""
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    steps = {
        name: {"r2": {"0": [0.1 * k] * 4}, "draws": {"0": [0.1 * k] * 10}, "parameters": 5, "seconds": 1.0}
        for k, name in enumerate("ab")
    }
    kept = {
        "a": {0: (expected, torch.arange(40.0))},
        "b": {0: (expected @ turn, torch.from_numpy(lengths.astype(np.float32)))},
    }
    units = np.repeat(np.asarray([f"d{k}" for k in range(10)]), 4)
    return Swept(steps, [0], kept, units, (10, 40), "", 0)


def test_turned_expectations_are_alike_and_reversed_novelties_are_not() -> None:
    expected = torch.randn(40, 6)
    found = planted(np.arange(40)[::-1] ** 3, expected).measurements()
    assert found["cka"].select(layer=0, variant="a", other="b").scalar() > 0.999999
    assert abs(found["cka_with_base"].select(layer=0, variant="b").scalar() - 1) < 1e-6
    assert found["novelty_rank"].select(layer=0, variant="a", other="b").scalar() < -0.999999
    both = found["novelty_with_base"].select(layer=0, variant="b")
    assert float(both.low) <= both.scalar() <= float(both.high) < -0.9
    np.testing.assert_allclose(np.diagonal(found["angle"].value[0]), 0.0, atol=1e-6)
    over = found["r2_over_base"].select(layer=0, variant="b")
    np.testing.assert_allclose((over.scalar(), float(over.low)), 0.1, atol=1e-12)
    assert planted(np.arange(40) ** 3, expected).measurements()["novelty_rank"].value[0, 0, 1] > 0.999999


def test_expectations_in_other_directions_are_a_right_angle_apart() -> None:
    flat = torch.zeros(40, 40)
    flat[:, :10], other = torch.randn(40, 10), torch.zeros(40, 40)
    other[:, 20:30] = torch.randn(40, 10)
    made = planted(np.arange(40), torch.randn(40, 6))
    kept = {"a": {0: (flat, torch.arange(40.0))}, "b": {0: (other, torch.arange(40.0))}}
    angle = replace(made, kept=kept).measurements()["angle"].value[0, 0, 1]
    np.testing.assert_allclose(angle, math.pi / 2, atol=1e-5)


def test_a_sweep_measures_every_design_on_the_same_tokens(swept: tuple[Findings, Work], model: Model) -> None:
    found = swept[0].measurements
    names = ["attention 1x2x8, all, rope", "linear, 2", "attention 1x2x8, 1, rope", AGAIN]
    assert found["r2"].axes["variant"].tolist() == names
    assert found["r2"].axes["layer"].tolist() == [0, 3]
    assert (
        found["parameters"].select(variant="linear, 2").scalar()
        == 2 * model.anatomy.d_model**2 + model.anatomy.d_model
    )
    assert np.isfinite(found["r2"].value).all()
    np.testing.assert_array_equal(found["r2_over_base"].value[:, 0], 0.0)
    for name in ("cka", "novelty_rank"):
        np.testing.assert_allclose(np.diagonal(found[name].value, axis1=1, axis2=2), 1.0, atol=1e-6)
    assert found["r2"].select(layer=0, variant=AGAIN, definition="dim").scalar() != found["r2"].value[0, 0, 0]
    assert found["probe_f1"].value.shape == (2, 3, 2, 4)
    state = found["probe_f1"].select(task="domain", feature="h").value
    np.testing.assert_array_equal(state, np.repeat(state[:, :1], 4, axis=1), "one state for all designs")


def test_probes_find_the_label_in_the_part_where_a_design_left_it() -> None:
    draw = np.random.default_rng(0)
    kinds, types = draw.integers(0, 2, 120), draw.integers(2, 4, 120)  # letters and digits
    domain, kind = torch.eye(2)[kinds], torch.eye(4)[types]
    noise = 0.01 * torch.from_numpy(draw.normal(size=(120, 6)).astype(np.float32))
    h = torch.cat([domain, kind], 1) + noise
    right = torch.cat([domain, torch.zeros(120, 4)], 1)
    items = {
        "label": np.array(["a", "b"])[kinds], "type": types, "split": np.arange(120) // 4 % 3,
        "unit": np.array([f"d{k // 4}" for k in range(120)]),
    }  # fmt: skip
    told: list[int] = []
    kept = {"": {5: h}, "splits": {5: right}, "expects all": {5: h}}
    table = ProbeTable(Probing((), items, "made up"), kept, 0, lambda done, _: told.append(done))
    found = table.measurements(table.found())
    gap = found["probe_difference"].select(layer=5)
    assert gap.at(task="domain", variant="splits") > 0.3
    assert gap.at(task="token_type", variant="splits") < -0.3
    assert gap.at(task="domain", variant="expects all") > 0.3
    assert gap.at(task="token_type", variant="expects all") > 0.3
    np.testing.assert_allclose(found["probe_f1"].select(feature="h").value, 1)
    assert told == [1, 2]


def test_a_killed_sweep_goes_on_with_the_next_design(
    swept: tuple[Findings, Work], model: Model, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    found, work = swept
    monkeypatch.setattr(sweep_bench, "solve", never)
    monkeypatch.setattr(sweep_bench, "Training", never)
    again = ran(PredictorSweep(**SMALL), model, reading, work.folder)[0]
    for name, m in found.measurements.items():
        np.testing.assert_array_equal(again.measurements[name].value, m.value)
    assert len(work.journal.finished()) == 5, "four designs, and their probes"
    with pytest.raises(AssertionError):
        ran(PredictorSweep(**{**SMALL, "steps": 5}), model, reading, work.folder)


def test_streams_are_kept_while_they_fit_and_read_again_where_not(model: Model, reading: Reading) -> None:
    windows = reading.windows(model).items[:3]
    plain = Remembering(model, (1,), 0)
    kept = Remembering(model, (1,), 2**20)
    for asked in (windows, windows[::-1], (windows[1], windows[1])):
        torch.testing.assert_close(
            kept.streams(asked).of[1], plain.streams(asked).of[1], rtol=1e-5, atol=1e-5
        )
    assert sorted(kept.stored) == [w.index for w in windows]
    assert not plain.stored


def test_what_cannot_be_swept_is_refused(model: Model, reading: Reading, tmp_path: Path) -> None:
    for wrong in (
        {"steps": 0},
        {"probed": -1},
        {"compared": 4},
        {"factors": {"depth": (1,)}},
        {"factors": {"heads": ()}},
    ):
        with pytest.raises(BadInput):
            PredictorSweep(**wrong)
    with pytest.raises(UnknownName, match="around"):
        PredictorSweep(grid="aruond")
    with pytest.raises(UnknownName, match="attention"):
        PredictorSweep(factors={"kinds": ("atention",)})
    with pytest.raises(BadInput, match="do not exist"):
        ran(PredictorSweep(**{**SMALL, "layers": (9,)}), model, reading, tmp_path)
    with pytest.raises(Refused, match="left to right"):
        ran(PredictorSweep(**SMALL), tiny("bert", torch.float32), reading, tmp_path)
