"""A journal runs each step once, whatever happens to the process in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from depthscope.engine.journal import Journal
from depthscope.errors import StoreError


class Counted:
    """A computation that knows how often it ran."""

    def __init__(self, value: object = 1.0) -> None:
        self.value, self.runs = value, 0

    def __call__(self) -> object:
        self.runs += 1
        return self.value


def test_a_step_runs_once_also_for_a_new_process(tmp_path: Path):
    compute = Counted({"loss": 0.1, "kept": [1, 2]})
    for _ in range(3):
        assert Journal(tmp_path, "m", "d").step("prune", {"layer": 3}, compute) == {
            "loss": 0.1,
            "kept": [1, 2],
        }
    assert compute.runs == 1


def test_the_first_answer_is_what_the_disk_holds(tmp_path: Path):
    """A tuple comes back as a list the first time too, so a resumed study sees no difference."""
    assert Journal(tmp_path, "m", "d").step("a", {}, lambda: (1, 2)) == [1, 2]


@pytest.mark.parametrize(
    ("name", "parameters", "model", "data"),
    [
        ("b", {"x": 1}, "m", "d"),
        ("a", {"x": 2}, "m", "d"),
        ("a", {"x": 1}, "n", "d"),
        ("a", {"x": 1}, "m", "e"),
    ],
    ids=["name", "parameters", "model", "data"],
)
def test_a_step_of_another_name_parameters_model_or_data_is_another_step(
    tmp_path: Path, name: str, parameters: dict[str, int], model: str, data: str
):
    compute = Counted()
    Journal(tmp_path, "m", "d").step("a", {"x": 1}, compute)
    Journal(tmp_path, model, data).step(name, parameters, compute)
    assert compute.runs == 2
    assert len(Journal(tmp_path, "m", "d").finished()) == 2


def test_the_order_in_which_parameters_are_given_does_not_matter(tmp_path: Path):
    journal = Journal(tmp_path, "m", "d")
    assert journal.key("a", {"x": 1, "y": 2}) == journal.key("a", {"y": 2, "x": 1})


def test_a_step_that_was_stopped_is_computed_again(tmp_path: Path):
    journal = Journal(tmp_path, "m", "d")

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.step("a", {}, stopped)
    assert journal.finished() == ()
    assert journal.step("a", {}, Counted(5)) == 5


def test_a_half_written_file_is_never_read(tmp_path: Path):
    """What a kill in the middle of a write leaves is a hidden partial file: the step is not finished."""
    journal = Journal(tmp_path, "m", "d")
    (tmp_path / f".{journal.key('a', {})}.json.partial").write_text('{"name": "a", "value": 99')
    assert journal.finished() == ()
    assert journal.step("a", {}, Counted(5)) == 5
    assert journal.finished() == (journal.key("a", {}),)


def test_a_step_that_json_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path):
    journal = Journal(tmp_path / "steps", "m", "d")
    with pytest.raises(StoreError, match="JSON"):
        journal.step("a", {}, lambda: float("nan"))
    assert journal.finished() == ()


def test_a_journal_without_a_folder_has_no_steps(tmp_path: Path):
    assert Journal(tmp_path / "none", "m", "d").finished() == ()
