"""Summaries of curves, and architectures compared over seeds: values by hand, intervals against scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from synthetic import manifest, result, write_run

from depthscope.errors import BadInput
from depthscope.report.compare import GRID, compare
from depthscope.report.comparison_page import write_comparison
from depthscope.report.seeds import compare_seeds, grouped, mean_interval, welch
from depthscope.report.summaries import summaries, summary_table
from depthscope.results.measurement import Measurement
from depthscope.store.run import Run


def entropy(value: list[float]) -> Measurement:
    return Measurement("prompt_entropy", {"state": np.arange(len(value))}, np.asarray(value), "1")


def trained(path: Path, family: str, seed: int, curve: Measurement, **data: object) -> Run:
    model = manifest()["model"] | {"name": family, "family": family, "weights_hash": f"{family}{seed}"}
    found = {"representation_profile": result("representation_profile", [curve])}
    return write_run(path / f"{family}-{seed}", found, model=model | data)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    valley = [[0.9, 0.8, 0.2, 0.6], [0.9, 0.8, 0.3, 0.6], [0.9, 0.8, 0.4, 0.6]]
    flat = [[0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.7], [0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.75]]
    made = [trained(tmp_path, "llama", k, entropy(v)) for k, v in enumerate(valley)]
    return [*made, *(trained(tmp_path, "mamba", k, entropy(v)) for k, v in enumerate(flat))]


def test_summaries_of_a_curve_by_hand():
    (depth, position, recovery, variation) = summaries(
        {"a/prompt_entropy": [entropy([0.7, 0.9, 0.2, 0.6])]}, {}
    )
    assert [one.kind for one in (depth, position, recovery, variation)] == [
        "valley depth", "valley position", "valley recovery", "total variation"
    ]  # fmt: skip
    # states 0 and 1 of 3 are the first third; the lowest stands at 2 / 3
    assert_allclose([depth.value[0], position.value[0], recovery.value[0]], [0.7, 2 / 3, 0.4])
    assert_allclose(variation.value[0], 0.2 + 0.7 + 0.4)
    assert np.isnan(depth.low[0])


def test_intervals_of_summaries_come_from_the_draws_and_differences_from_paired_ones():
    first, second = entropy([0.9, 0.1]), entropy([0.9, 0.4])
    draws = [np.array([[0.9, 0.1], [0.9, 0.3]]), np.array([[0.9, 0.4], [0.9, 0.6]])]
    found = summaries({"a/prompt_entropy": [first, second]}, {"a/prompt_entropy": draws})[0]
    assert_allclose(found.difference, [0.0, -0.3])
    assert_allclose([found.below[1], found.above[1]], [-0.3, -0.3])  # both draws move together
    assert_allclose([found.low[0], found.high[0]], np.percentile([0.8, 0.6], [2.5, 97.5]))


def test_an_interval_over_seeds_is_that_of_students_t():
    values = np.array([1.0, 2.0, 4.5])
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert_allclose([mean, low, high], [values.mean(), *expected])
    assert np.isnan(mean_interval(values[:1])[1])


def test_a_difference_over_seeds_has_the_interval_of_welch():
    one, other = np.array([1.0, 2.0, 4.5]), np.array([7.0, 7.5])
    expected = stats.ttest_ind(other, one, equal_var=False).confidence_interval()
    apart, low, high = welch(one, other)
    assert_allclose([apart, low, high], [other.mean() - one.mean(), expected.low, expected.high])
    assert_allclose(welch(one * 0, other * 0)[1], 0.0)
    assert np.isnan(welch(one, other[:1])[1])


def test_architectures_are_laid_over_each_other_by_their_mean_over_seeds(runs: list[Run]):
    found = compare_seeds(runs)
    assert found.runs == ("llama, 12 layers", "mamba, 12 layers")
    assert "llama, 12 layers: 3, mamba, 12 layers: 2" in found.pairing
    one = found.aligned["representation_profile/prompt_entropy"]
    place = int(np.argmin(np.abs(GRID - 1.0)))
    assert_allclose(one.value[:, place], [0.6, 0.725])
    assert_allclose(one.difference[1, place], 0.125)
    valley = next(s for s in found.summaries if s.kind == "valley depth")
    assert_allclose(valley.value, [0.6, 0.075])
    expected = stats.ttest_ind([0.1, 0.05], [0.7, 0.6, 0.5], equal_var=False).confidence_interval()
    assert_allclose([valley.below[1], valley.above[1]], [expected.low, expected.high], rtol=1e-9)
    assert_allclose(one.curves[0].n, 3)


def test_the_page_and_the_table_hold_the_summaries(runs: list[Run], tmp_path: Path):
    found = compare_seeds(runs)
    table = summary_table(found.runs, found.summaries)
    assert table.columns[:3] == ("curve", "what", "llama, 12 layers")
    html = write_comparison(found, tmp_path / "c.html").read_text(encoding="utf-8")
    assert "Curves in one number" in html
    assert "valley depth" in html


def test_one_architecture_and_equal_weights_are_refused(runs: list[Run], tmp_path: Path):
    with pytest.raises(BadInput, match="all 3 runs are of one"):
        compare_seeds(runs[:3])
    with pytest.raises(BadInput, match="equal weights"):
        compare_seeds([*runs, trained(tmp_path / "again", "llama", 0, entropy([1.0, 1.0, 1.0, 1.0]))])
    assert [group.places for group in grouped(runs)] == [(0, 1, 2), (3, 4)]


def test_differing_tokenizers_are_said(tmp_path: Path):
    runs = [trained(tmp_path / n, n, 0, entropy([1.0, 0.5]), tokenizer=n) for n in "ab"]
    assert compare(runs).pairing.startswith("paired")  # equal ids are equal ids, whatever they were cut with
    for run, name in zip(runs, "ab", strict=True):
        run.manifest["data"]["hash"] = name  # pyright: ignore[reportIndexIssue]
    assert "tokenizers differ" in compare(runs).pairing


def test_of_training_steps_the_last_common_one_is_compared(tmp_path: Path):
    runs = []
    for name, steps in (("a", [0, 4, 9]), ("b", [0, 4])):
        value = np.arange(len(steps))[:, None] * np.ones(3)
        axes = {"step": np.asarray(steps), "state": np.arange(3)}
        found = {"checkpoints": result("logit_lens", [Measurement("kl", axes, value, "nats")])}
        runs.append(write_run(tmp_path / name, found))
    assert list(compare(runs).aligned) == ["logit_lens/kl[step=4]"]
