"""Atlases side by side: a copy, another order of heads, another model, and the checkpoints of one training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grammar_results import result
from synthetic import manifest, write_run

import depthscope.report.page as page_module
from depthscope.cli.compare import _as_data, _say
from depthscope.cli.output import json_text
from depthscope.errors import BadInput
from depthscope.report.compare import Comparison, compare
from depthscope.report.comparison_page import write_comparison
from depthscope.report.head_comparison import Heads, HeadsApart, apart
from depthscope.report.head_comparison_page import heads_parts
from depthscope.report.head_sentences import sentences
from depthscope.results.measurement import Measurement
from depthscope.store.run import Run

SCORES = ("previous", "induction", "far_mass", "copying", "retrieval")
ROLES = ("induction", "retrieval")
RNG = np.random.default_rng(5)


def scores(layers: int = 6, heads: int = 8) -> dict[str, np.ndarray]:
    """Two kinds of heads at a third and at two thirds of the depth, noise everywhere."""
    found = {name: RNG.uniform(0, 0.1, (layers, heads)) for name in SCORES}
    early, late = layers // 3, 2 * layers // 3
    found["previous"][early] += 0.6
    for name in ("induction", "copying"):
        found[name][late] += 0.5
    found["retrieval"][:] = np.nan
    return found


def heads_of(values: dict[str, np.ndarray], name: str = "a") -> Heads:
    roles = {
        "induction": (values["induction"] >= 0.2).astype(float),
        "retrieval": np.full_like(values["previous"], np.nan),
    }
    known = {n: v for n, v in values.items() if np.isfinite(v).any()}
    return Heads(name, known, dict.fromkeys(known, "probability"), roles)


def run_of(path: Path, values: dict[str, np.ndarray], right: float | None = None, **model: object) -> Run:
    one = heads_of(values)
    grid = {axis: np.arange(size) for axis, size in zip(("layer", "head"), one.size, strict=True)}
    found = [Measurement(n, grid, v, "probability", missing="not measured") for n, v in values.items()]
    role = np.stack([one.roles[name] for name in ROLES])
    found.append(Measurement("role", {"role": np.array(ROLES), **grid}, role, "1", missing="open"))
    about = manifest()["model"] | {"name": path.name} | model
    results = {"head_atlas": result("head_atlas", found)}
    if right is not None:
        results["minimal_pairs"] = result(
            "minimal_pairs", [Measurement("accuracy", {}, np.asarray(right), "1")]
        )
    return write_run(path, results, model=about)


def test_a_copy_agrees_head_by_head_and_says_so():
    values = scores()
    near = {name: value + RNG.normal(0, 1e-3, value.shape) for name, value in values.items()}
    found = apart(heads_of(values), heads_of(near, "b"), draws=20)
    assert found.aligned
    assert [one.score for one in found.scores] == ["previous", "induction", "far_mass", "copying"]
    assert min(one.low for one in found.scores) > 0.8
    assert {one.n for one in found.scores} == {48}
    assert sentences(found)[0].startswith("Head by head, 4 of 4 scores correlate above 0.8")
    induction = found.labels[0]
    assert (induction.heads, induction.share, induction.depth) == ((8, 8), (1 / 6, 1 / 6), (0.8, 0.8))
    assert induction.shared is not None
    assert (induction.shared.jaccard, induction.shared.both) == (1, 8)
    assert found.labels[1].shared is None, "nobody measured retrieval"


def test_heads_of_another_order_do_not_agree_by_index_and_are_found_by_their_profiles():
    values = scores()
    order = RNG.permutation(48)
    moved = {name: value.ravel()[order].reshape(6, 8) for name, value in values.items()}
    found = apart(heads_of(values), heads_of(moved, "b"), draws=20)
    assert max(one.high for one in found.scores) < 0.8
    assert "and 4 below" in sentences(found)[0]
    assert found.matched is not None
    np.testing.assert_array_equal(order[found.matched.pairs[:, 1]], found.matched.pairs[:, 0])
    assert found.matched.p == 1 / 21
    assert found.matched.scores == ("previous", "induction", "far_mass", "copying")
    assert all(one.level == 0 for one in found.scores)


def test_models_of_different_sizes_are_compared_by_depth_and_share():
    found = apart(heads_of(scores()), heads_of(scores(12, 5), "b"), draws=20)
    assert not found.aligned
    by_name = {one.score: one for one in found.scores}
    assert np.isnan(by_name["induction"].correlation)
    assert by_name["previous"].depth_p < 0.05
    assert by_name["far_mass"].depth_p > 0.05
    said = sentences(found)
    assert len(said) == 2
    assert "3 of 4 scores lie nearer" in said[0]
    assert "induction" in said[0]
    assert found.labels[0].share == (8 / 48, 5 / 60)
    assert found.matched is not None
    assert found.matched.p == 1 / 21
    assert found.matched.depth > 0


def test_noise_decides_nothing():
    def noise(name: str, size: tuple[int, int]) -> Heads:
        return heads_of({n: RNG.uniform(0, 0.1, size) for n in SCORES}, name)

    found = apart(noise("a", (5, 6)), noise("b", (5, 4)), draws=40)
    assert all("not decided" in sentence for sentence in sentences(found))


def test_what_cannot_be_paired_says_why():
    values = {name: np.full((4, 4), np.nan) for name in SCORES} | {"previous": np.eye(4)}
    values["induction"] = np.zeros((4, 4))
    found = apart(heads_of(values), heads_of(values, "b"))
    assert found.matched is None
    assert "1 scores vary in both models" in found.unmatched
    assert "Paired by their scores: not decided" in sentences(found)[-1]


def test_layers_without_heads_are_left_out_of_the_pairs():
    values = scores()
    for value in values.values():
        value[3] = np.nan
    found = apart(heads_of(values), heads_of(scores(), "b"), draws=5)
    assert found.matched is not None
    assert not (found.matched.pairs[:, 0] // 8 == 3).any()
    assert found.scores[0].n == 40


def test_runs_with_atlases_get_their_part_of_page_terminal_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(page_module, "scripts", lambda: ("",))  # the bundle has tests of its own
    runs = [run_of(tmp_path / "a", scores()), run_of(tmp_path / "b", scores(12, 5))]
    found = compare(runs)
    (pair,) = found.heads
    assert (pair.first.run, pair.second.run) == ("a", "b")
    assert found.course is None
    (part,) = heads_parts(found.heads, found.course)
    assert [table.caption for table in part.tables] == [
        "Scores of heads", "Labels of heads", "Heads paired by their scores"
    ]  # fmt: skip
    assert [chart.title for chart in part.charts] == [
        "Share of heads with each label", "How far apart in depth scores lie"
    ]  # fmt: skip
    page = write_comparison(found, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Heads of b and a" in page
    assert "heads in random order" in page
    _say(found)
    said = capsys.readouterr().out
    assert "Heads of b and a\nBy depth, " in said
    assert "Labels of heads\nlabel " in said
    data = json.loads(json_text(_as_data(found)))
    (heads,) = data["heads"]
    assert (heads["sizes"], heads["aligned_by_index"]) == ([[6, 8], [12, 5]], False)
    assert len(heads["matching"]["pairs"]) == 48
    assert heads["scores"][0]["correlation"] is None


def test_runs_without_atlases_have_no_part_on_heads(tmp_path: Path):
    one = run_of(tmp_path / "a", scores())
    other = write_run(tmp_path / "b", {"logit_lens": result("grammar_heads", [])})
    with pytest.raises(
        BadInput, match=r"share no measurement: .*synthetic-12x8 has no head_atlas: run it there too"
    ):
        compare([one, other])


def test_atlases_of_other_scores_are_not_compared_and_the_reason_is_said(tmp_path: Path):
    every = scores()
    nothing = np.full_like(every["previous"], np.nan)
    first = run_of(tmp_path / "a", every | {"copying": nothing}, right=0.5)
    lone = dict.fromkeys(SCORES, nothing) | {"copying": every["copying"]}
    second = run_of(tmp_path / "b", lone, right=0.7)
    found = compare([first, second])
    assert found.heads == ()
    assert "atlases share no score (a has previous, induction, far_mass; b has copying)" in found.pairing
    assert found.scalars, "the rest stands"
    with pytest.raises(
        BadInput, match=r"share no measurement: .*/c holds head_atlas; .*share no score"
    ) as refused:
        compare([run_of(tmp_path / "c", every | {"copying": nothing}), run_of(tmp_path / "d", lone)])
    assert refused.value.exit_code == 2


def trained(tmp_path: Path) -> list[Run]:
    """Induction comes at step 10, goes at 20 and stays from 40 on, and pairs are told from 40 on; in another order."""
    runs: list[Run] = []
    for step, there in ((40, True), (0, False), (20, False), (10, True), (80, True)):
        values = scores()
        values["induction"] *= 1.0 if there else 0.1
        runs.append(run_of(tmp_path / f"step-{step}", values, 0.5 if step <= 20 else 0.9))
    return runs


def test_checkpoints_give_the_step_at_which_a_label_is_born(tmp_path: Path):
    found = compare(trained(tmp_path))
    course = found.course
    assert course is not None
    assert course.birth.axes["role"].tolist() == list(ROLES)
    np.testing.assert_array_equal(course.birth.value, [40, np.nan])
    np.testing.assert_array_equal(course.kept.value, [8, 0])
    assert course.kept_birth.at(role="induction") == 40
    np.testing.assert_array_equal(course.top.axes["step"], [0, 10, 20, 40, 80])
    tops = course.top.select(score="induction").value
    assert tops[0] < 0.1 < 0.5 < tops[1]
    assert course.share.at(step=10, role="induction") == 1 / 6
    part = heads_parts(found.heads, course)[0]
    assert part.sentences == (
        "Labels in the order in which they came to stay: induction (step 40).",
        "What the model can do sets in: minimal_pairs/accuracy (step 20).",
    )
    assert course.behaviour is not None
    np.testing.assert_array_equal(course.behaviour.value[:, 0], [0.5, 0.5, 0.5, 0.9, 0.9])
    assert data_of(found)["behaviour_onset"] == {"minimal_pairs/accuracy": 20}
    assert part.tables[0].rows[0] == ("induction", "40", "8", "40")
    assert data_of(found)["role_birth"]["induction"] == 40
    assert len(found.heads) == 4


def data_of(found: Comparison) -> dict[str, Any]:
    return _as_data(found)["head_course"]


def test_no_label_at_the_end_is_no_birth(tmp_path: Path):
    found = compare(trained(tmp_path)[1:3])
    assert heads_parts(found.heads, found.course)[0].sentences[0].startswith("Not decided")


@pytest.mark.parametrize("names", [("run-1", "run-2"), ("step-3", "step-3b"), ("step-3", "other")])
def test_other_runs_are_no_course(tmp_path: Path, names: tuple[str, str]):
    runs = [run_of(tmp_path / name, scores()) for name in names]
    assert compare(runs).course is None


def test_pairs_with_labels_stand_first():
    found: HeadsApart = apart(heads_of(scores()), heads_of(scores(12, 5), "b"), draws=2)
    rows = heads_parts((found,), None)[0].tables[-1].rows
    labelled = [bool(a or b) for _, a, _, b in rows]
    assert labelled == sorted(labelled, reverse=True)
    assert any(labelled)
