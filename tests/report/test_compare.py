"""Runs are laid over each other by relative depth; differences are of one depth, with honest intervals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from synthetic import first, manifest, measurement, result, write_run

from depthscope.engine.tally import PerDocument, Tally
from depthscope.errors import BadInput
from depthscope.report.compare import GRID, compare
from depthscope.report.comparison_curves import OPEN, curve_groups, depth_table, named
from depthscope.report.comparison_page import write_comparison
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result
from depthscope.store.run import Run


def one(path: Path, *found: Measurement, name: str = "m", data: str = "same") -> Run:
    made: dict[str, Result] = {"logit_lens": result("logit_lens", list(found))}
    model = manifest()["model"] | {"name": name}
    return write_run(path, made, model=model, data=manifest()["data"] | {"hash": data})


def by_state(last: int, slope: float, half: float = 0.1) -> Measurement:
    """slope x depth, with an interval of half width `half`."""
    states = np.arange(last + 1)
    value = slope * states / last
    return Measurement(
        "kl", {"state": states}, value, "nats", value - half, value + half, np.full(last + 1, 9)
    )


def test_states_of_different_models_meet_at_the_same_depth(tmp_path: Path):
    a, b = one(tmp_path / "a", by_state(12, 1.0), name="a"), one(tmp_path / "b", by_state(30, 3.0), name="b")
    found = compare([a, b]).aligned["logit_lens/kl"]
    assert_allclose(found.value[0], GRID, atol=1e-12)
    assert_allclose(found.value[1], 3 * GRID, atol=1e-12)
    assert_allclose(found.difference[1], 2 * GRID, atol=1e-12)
    assert_allclose(found.difference[0], 0)


def test_layers_stand_at_layer_plus_one_over_l_and_nothing_is_invented_before(tmp_path: Path):
    layers = measurement("loss", {"layer": [0, 1, 2, 3]}, [1.0, 2.0, 3.0, 4.0], "nats")
    runs = [one(tmp_path / n, layers, name=n) for n in "ab"]
    value = compare(runs).aligned["logit_lens/loss"].value[0]
    assert np.isnan(value[GRID < 0.25]).all()
    assert_allclose(value[GRID >= 0.25], 4 * GRID[GRID >= 0.25], atol=1e-12)


def test_intervals_of_unpaired_differences_add_as_if_independent(tmp_path: Path):
    a = one(tmp_path / "a", by_state(12, 1.0, 0.3), name="a")
    b = one(tmp_path / "b", by_state(12, 1.0, 0.4), name="b", data="other")
    found = compare([a, b])
    assert found.pairing.startswith("unpaired")
    curve = found.aligned["logit_lens/kl"]
    assert_allclose(curve.low[1], -0.5, atol=1e-12)  # 3-4-5
    assert_allclose(curve.high[1], 0.5, atol=1e-12)


def keep_sums(run: Run, part: str, values: np.ndarray, units: tuple[str, ...]) -> None:
    """Keep [document, *cells] as the folded tally of logit_lens."""
    Tally({part: PerDocument(units, values, np.ones(values.shape, np.int64))}).save(
        run.path / "totals" / "logit_lens.npz"
    )


def test_the_same_text_is_said_to_be_paired_but_without_sums_the_intervals_are_added(tmp_path: Path):
    runs = [one(tmp_path / n, by_state(12, 1.0), name=n) for n in "ab"]
    found = compare(runs)
    assert found.pairing.startswith("paired")
    assert "as if independent" in found.aligned["logit_lens/kl"].interval


def paired_runs(
    tmp_path: Path, units: dict[str, tuple[str, ...]], part: str, mode: str | None = None
) -> list[Run]:
    shared = np.random.default_rng(1).normal(0, 10, (24, 1))  # far larger than the difference
    runs = []
    for name, shift in (("a", 0.0), ("b", 1.0)):
        value = shared + shift + 0.01 * np.random.default_rng(ord(name)).normal(size=(24, 5))
        axes = {"state": np.arange(5)} | ({} if mode is None else {"mode": np.asarray(["other", mode])})
        mean = value.mean(0) if mode is None else np.stack([value.mean(0) + 99, value.mean(0)], -1)
        sums = value if mode is None else np.stack([value + 99, value], -1)
        runs.append(one(tmp_path / name, Measurement("kl", axes, mean, "nats"), name=name))
        keep_sums(runs[-1], part, sums, units[name])
    return runs


UNITS = tuple(f"d{k:02d}" for k in range(24))


@pytest.mark.parametrize(("mode", "key"), [(None, "logit_lens/kl"), ("wei", "logit_lens/kl[mode=wei]")])
def test_differences_are_paired_by_document_and_forget_what_documents_share(tmp_path: Path, mode, key):
    found = compare(paired_runs(tmp_path, {"a": UNITS, "b": UNITS}, "kl", mode)).aligned[key]
    assert "paired over 24 documents" in found.interval
    assert_allclose(found.difference[1], 1.0, atol=0.02)
    assert (found.high[1] - found.low[1]).max() < 0.05
    assert_allclose([found.low[0], found.high[0]], 0.0, atol=1e-12)


def test_sums_over_other_documents_are_not_paired(tmp_path: Path):
    other = tuple(f"e{k:02d}" for k in range(24))
    found = compare(paired_runs(tmp_path, {"a": UNITS, "b": other}, "kl")).aligned["logit_lens/kl"]
    assert "as if independent" in found.interval


def test_further_axes_are_split_by_the_labels_that_all_runs_have(tmp_path: Path):
    grid = np.ones((3, 2))
    first = measurement("entropy", {"state": [0, 1, 2], "mode": ["wei", "old"]}, grid)
    second = measurement("entropy", {"state": [0, 1, 2], "mode": ["new", "wei"]}, grid)
    found = compare([one(tmp_path / "a", first), one(tmp_path / "b", second)])
    assert list(found.aligned) == ["logit_lens/entropy[mode=wei]"]


def test_single_numbers_stand_side_by_side(tmp_path: Path):
    runs = [
        one(tmp_path / n, measurement("floor", {}, v), by_state(4, 1)) for n, v in (("a", 1.0), ("b", 2.0))
    ]
    assert compare(runs).scalars == {"logit_lens/floor": (1.0, 2.0)}


def test_runs_of_one_model_are_told_apart_by_their_folders(tmp_path: Path):
    found = compare([one(tmp_path / n, by_state(4, 1)) for n in "ab"])
    assert found.runs == ("m (a)", "m (b)")


def test_a_single_run_and_runs_with_nothing_in_common_are_refused(tmp_path: Path):
    a = one(tmp_path / "a", by_state(4, 1))
    b = one(tmp_path / "b", replace(by_state(4, 1), name="other"))
    with pytest.raises(BadInput, match="two runs"):
        compare([a])
    with pytest.raises(BadInput, match="share no measurement"):
        compare([a, b])


def test_the_table_prints_depth_values_and_differences(tmp_path: Path):
    a, b = one(tmp_path / "a", by_state(4, 1), name="a"), one(tmp_path / "b", by_state(4, 2), name="b")
    found = compare([a, b])
    table = depth_table(found, found.aligned["logit_lens/kl"], step=10)
    assert table.columns == ("depth", "a", "b", "b \u2212 a")
    assert [row[:3] for row in table.rows] == [("0%", "0", "0"), ("50%", "0.5", "1"), ("100%", "1", "2")]
    assert table.rows[1][3] == "0.5 (0.3586 to 0.6414)"


def test_a_curve_is_called_by_its_words_and_labels():
    assert named("attention_sinks/sink_mass[source=natural][level=0.3]") == (
        "sink mass",
        "source: natural; level: 0.3",
    )
    assert named("logit_lens/entropy") == ("entropy", "")


def test_of_each_analysis_a_few_curves_stand_open_and_every_measurement_has_one_of_them(tmp_path: Path):
    states, modes = [0, 1, 2], [f"m{k}" for k in range(OPEN)]
    many = measurement("entropy", {"state": states, "mode": modes}, np.ones((3, OPEN)))
    found = compare([one(tmp_path / name, many, by_state(3, 1)) for name in "ab"])
    (group,) = curve_groups(found)
    assert [chart.title for chart in group.charts] == ["entropy"] * (OPEN - 1) + ["kl"]
    assert [(chart.title, chart.note) for chart in group.more] == [("entropy", f"mode: m{OPEN - 1}")]


def test_the_page_of_whole_runs_needs_no_network(tmp_path: Path):
    runs = [write_run(tmp_path / n, first()) for n in "ab"]
    html = write_comparison(compare(runs), tmp_path / "compare.html").read_text(encoding="utf-8")
    assert 'src="' not in html.split("<script>")[0]
    assert html.count('class="mount"') > 20
    assert "could not be drawn:" not in html.split("<script>")[0]
