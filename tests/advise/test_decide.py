"""The procedure on a tiny model: every step, stopped and resumed, with nothing measured twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sheets

from depthscope.advise.cost import Cost, Speed
from depthscope.advise.decide import decide
from depthscope.advise.decision import evidence, subjects
from depthscope.advise.decision.compare import _both, request_seconds
from depthscope.advise.decision.diagnosis import prompts
from depthscope.advise.decision.evidence import Lengths
from depthscope.advise.decision.folder import held
from depthscope.advise.decision.ladder import sizes
from depthscope.advise.decision.sheet import load_sheet
from depthscope.advise.decision.width import spoken
from depthscope.errors import StoreError
from depthscope.materials.tasks import Item, Task
from depthscope.results.decision import STEPS, Decision, Estimate, Width, WidthLine

ALTERNATIVE = '\n[[alternatives]]\nname = "short"\nkind = "sibling"\nmodel = "tiny-gpt2"\n'


def planted(model: Any, **asked: Any) -> Cost:
    """Speeds that are proportional to the layers left out, known by hand."""
    layers = model.anatomy.n_layers
    speed = Speed(
        8,
        4000.0 / layers,
        400.0 / layers,
        (3900.0 / layers, 4100.0 / layers),
        (390.0 / layers, 410.0 / layers),
    )
    return Cost(layers, 1000 * layers, 0.2, 4000 * layers, 64.0, 0.0, (speed,), 128, 16, 3, 1, "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decide")
    sheets.write(path, sheets.SHEET + ALTERNATIVE)
    return path


def test_short_prompts_are_read_in_a_row_and_tasks_take_turns() -> None:
    def task(name: str, length: int) -> Task:
        items = tuple(Item(str(k), name * length, ("x",), "contains") for k in range(4))
        return Task(name, "short_answer", items)

    texts = prompts([task("a", 58), task("b", 200)], 3, 0)
    assert texts == (f"{'a' * 58} x\n{'a' * 58} x", f"{'b' * 200} x", f"{'a' * 58} x\n{'a' * 58} x")
    assert prompts([task("a", 9)], 3, 0) == ("\n".join(["aaaaaaaaa x"] * 4),)


@pytest.fixture(scope="module")
def found(folder: Path) -> Iterator[Decision]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evidence, "measured", planted)
        yield decide(load_sheet(folder / "sheet.toml"), folder / "out", command="depthscope decide")


def test_every_step_is_done_and_says_something_or_has_its_table(found: Decision) -> None:
    assert [step.number for step in found.steps] == list(range(1, 9))
    assert {step.state for step in found.steps} == {"done"}
    keys = {said.key.partition(".")[0] for step in found.steps for said in step.said}
    assert keys >= {"sheet", "baseline", "depth", "task", "ladder", "stress", "width", "healing", "rollout"}
    assert [line.key.partition(".")[0] for line in found.headline] == [
        "decision", "saving", "exceptions", "confidence", "next",
    ]  # fmt: skip


def test_versions_are_the_base_the_sibling_and_the_rungs(found: Decision) -> None:
    assert [(v.kind, v.layers, v.step) for v in found.variants] == [
        ("base", 4, 2),
        ("sibling", 4, 4),
        ("ladder", 3, 5),
    ]
    rung = found.variants[2]
    assert len(rung.removed) == 1
    assert rung.removed[0] not in (0, 3)
    assert rung.loss.bounded
    assert not found.variants[1].loss.bounded


def test_costs_and_savings_follow_the_measured_speeds(found: Decision) -> None:
    base, _, rung = found.variants
    assert base.prefill == Estimate(1000.0, 975.0, 1025.0, 3)
    assert rung.decode.value == pytest.approx(400 / 3)
    assert base.cost.low is not None
    assert base.cost.value is not None
    assert base.cost.low == pytest.approx(base.cost.value * 400 / 410, rel=1e-9)
    assert rung.saving.n == 3


def test_a_task_that_the_base_only_guesses_is_never_accepted(found: Decision) -> None:
    for variant in found.variants[1:]:
        for one in variant.tasks:
            assert one.score.n == 3  # the half of the items that was not used to choose
            assert one.verdict in ("undecided", "reject")
    assert found.chosen == found.base
    assert all(route.variant == found.base for route in found.routes)


def test_arithmetic_is_compared_by_itself_and_every_note_has_its_reason(found: Decision) -> None:
    assert found.variants[0].math_verdict == "base"
    assert {v.math.n for v in found.variants[1:]} == {3}
    assert {note.key for note in found.risks} == {
        "risk.math", "risk.few_items", "risk.healing", "risk.safety", "risk.domain",
    }  # fmt: skip


def test_depth_is_diagnosed_on_the_prompts_of_the_tasks(found: Decision, folder: Path) -> None:
    assert found.depth is not None
    assert (found.depth.layers, len(found.depth.lines)) == (4, 4)
    assert found.depth.lines[3].later_tokens.value == 0.0  # the last layer reaches no later token
    assert (folder / "out" / found.depth.run / "manifest.json").is_file()


def test_width_is_measured_on_the_text_and_no_wider_model_is_promised(found: Decision, folder: Path) -> None:
    assert found.width is not None
    assert found.width.directions == 32
    assert [line.state for line in found.width.lines] == [0, 1, 2, 3, 4]
    assert all(
        line.directions.value == pytest.approx(32 * (line.share.value or 0)) for line in found.width.lines
    )
    assert (folder / "out" / found.width.run / "manifest.json").is_file()
    keys = [said.key for said in found.steps[6].said]
    assert keys == ["width.few", "width.not_wider", "healing.not_evaluated"]  # two windows of text


def test_sentences_on_width_follow_the_interval() -> None:
    def keys(late: Estimate) -> list[str]:
        lines = tuple(
            WidthLine(state, Estimate(8.0 * k, 8.0 * k, 9.0 * k, 8), Estimate(k / 8, k / 8, k / 8 + 0.01, 8))
            for state, k in enumerate((8, 2, 4, 3, 8))
        )
        said = spoken(Width(64, 0.05, lines, late, "width/x"))
        assert (said[0].slots["most_state"], said[0].slots["least_state"]) == (2, 1)  # 0 and 4 are the ends
        return [one.key for one in said]

    assert keys(Estimate(0.2, 0.1, 0.3, 8)) == ["width.needed", "width.more", "width.not_wider"]
    assert keys(Estimate(-0.2, -0.3, -0.1, 8)) == ["width.needed", "width.less", "width.not_wider"]
    assert keys(Estimate(0.2, -0.1, 0.3, 8)) == ["width.needed", "width.open", "width.not_wider"]
    too_few = spoken(Width(64, 0.05, (), Estimate(0.2, 0.1, 0.3, 7), "width/x"))
    assert [one.key for one in too_few] == ["width.few", "width.not_wider"]


def test_a_second_call_gives_the_same_and_opens_no_model(
    found: Decision, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any, **asked: Any) -> Any:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(subjects, "load", never)
    monkeypatch.setattr(subjects, "shortened", never)
    again = decide(load_sheet(folder / "sheet.toml"), folder / "out", command="depthscope decide")
    assert again == found


def test_work_stops_after_the_step_that_is_asked_for(found: Decision, folder: Path) -> None:
    early = decide(replace(load_sheet(folder / "sheet.toml"), stop_after=2), folder / "out")
    assert [step.state for step in early.steps] == ["done"] * 2 + ["stopped"] * 6
    assert [v.name for v in early.variants] == [found.base]
    assert (early.headline[0].key, early.headline[4].slots["step"]) == ("decision.stopped", 3)
    first = decide(replace(load_sheet(folder / "sheet.toml"), stop_after=1), folder / "out")
    assert first.variants == ()
    assert first.headline[0].slots["step"] == 1


def test_work_stops_when_the_time_is_used_up_and_goes_on_later(found: Decision, folder: Path) -> None:
    late = decide(replace(load_sheet(folder / "sheet.toml"), minutes=1e-9), folder / "out")
    assert [step.state for step in late.steps[:4]] == ["done", "done", "done", "stopped"]
    assert late.headline[0].key == "decision.stopped"


def test_another_seed_halves_anew_without_measuring_again(
    found: Decision, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any, **asked: Any) -> Any:
        raise AssertionError("scored again")

    monkeypatch.setattr(evidence, "score", never)
    early = replace(load_sheet(folder / "sheet.toml"), seed=5, stop_after=2)
    assert decide(early, folder / "out").variants[0].tasks[0].score.n == 3


def test_a_folder_with_other_files_is_refused_and_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match=r"holds no decision, but thesis\.txt"):
        decide(load_sheet(folder / "sheet.toml"), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["thesis.txt"]


def test_a_folder_that_another_process_holds_is_refused(folder: Path, tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(StoreError, match="another process works in"):
        decide(load_sheet(folder / "sheet.toml"), tmp_path)


def test_a_wrong_sheet_leaves_no_folder(tmp_path: Path) -> None:
    sheet = load_sheet(sheets.write(tmp_path, sheets.SHEET.replace("min_items = 4", "min_items = 99")))
    with pytest.raises(Exception, match="needs 99 items"):
        decide(sheet, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_seconds_of_a_request_are_reading_and_writing() -> None:
    speed = Speed(8, 100.0, 10.0, (50.0, 200.0), (5.0, 20.0))
    cost = Cost(4, 1, 0.0, 1, 0.0, 0.0, (replace(speed, batch=1, prefill=1.0), speed), 128, 16, 10, 1, "cpu")
    found = request_seconds(cost, Lengths((10, 30), (4, 6)))  # 20 / 100 + 5 / 10 at the larger batch
    assert found == Estimate(0.7, 20 / 200 + 5 / 20, 20 / 50 + 5 / 5, 10)


def test_a_saving_holds_the_drift_of_the_machine() -> None:
    slow, quick = (
        Speed(8, 80.0, 8.0, (70.0, 90.0), (7.0, 9.0)),
        Speed(8, 120.0, 12.0, (110.0, 130.0), (11.0, 13.0)),
    )
    assert _both(slow, quick) == Speed(8, 100.0, 10.0, (70.0, 130.0), (7.0, 13.0))


def test_rungs_are_whole_layers_each_once() -> None:
    assert sizes((5.0, 10.0, 15.0, 20.0, 25.0, 30.0), 30) == (2, 3, 4, 6, 8, 9)  # 1.5 and 7.5 round to even
    assert sizes((5.0, 10.0), 4) == (1,)
    assert sizes((90.0,), 4) == (2,)


def test_the_steps_are_named_once() -> None:
    assert len(set(STEPS)) == 8
