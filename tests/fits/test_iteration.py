"""Sequences of steps are what they are said to be, and their training is the same in one go and in two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthscope.cli import main
from depthscope.errors import BadInput, NonFinite, Refused, RunMismatch, UnknownName
from depthscope.fits.iteration import CARD, IterationTraining
from depthscope.fits.iteration_course import IterationCourse, drawn_net, loss_of, right_sequences
from depthscope.fits.watch import Watch
from depthscope.materials.iteration import EQUALS, STOP, WORDS, IterationPrompts, coded, steps_of
from depthscope.runtime.load import load
from depthscope.runtime.tiny import tiny
from depthscope.store.atomic import read_json

SMALL = IterationCourse("parity", longest=3, d_model=8, steps=4, rows=6, every=2, room=4)


class Stopped(Exception):
    """A training that was interrupted."""


def stop_at(phase: str, done: int, total: int) -> None:
    del phase, total
    if done == 3:
        raise Stopped


def test_steps_are_those_of_each_task_worked_by_hand():
    assert steps_of("copy", np.array([[4, 9, 1]])).tolist() == [[4, 9, 1]]
    assert steps_of("parity", np.array([[1, 0, 1, 1]])).tolist() == [[1, 1, 0, 1]]
    # 3; 3 * 4 + 1 = 13 = 2; 2 * 10 + 1 = 21 = 10 (mod 11)
    assert steps_of("polynomial", np.array([[3, 4, 10]])).tolist() == [[3, 2, 10]]


def test_a_sequence_is_task_inputs_end_steps_and_a_full_stop():
    ids = coded("polynomial", np.array([[3, 4]]), offset=2)[0].tolist()
    assert [WORDS[i] for i in ids] == [".", ".", "polynomial", "3", "4", "=", "3", "2", "."]


def test_only_steps_and_the_full_stop_behind_them_are_asked_for():
    ids, targets = IterationCourse("copy", longest=4, rows=32, offset=2).batch(5, 0)
    for row, wanted in zip(ids.tolist(), targets.tolist(), strict=True):
        end = row.index(EQUALS)
        stop = row.index(STOP, end)
        asked = [k for k, target in enumerate(wanted) if target != -100]
        assert asked == list(range(end, stop))
        assert [wanted[k] for k in asked] == row[end + 1 : stop + 1]


def test_held_out_lengths_are_never_drawn():
    course = IterationCourse("copy", longest=4, held_out=(1, 3), rows=64)
    ids, _ = course.batch(0, 0)
    assert {row.index(EQUALS) - 1 for row in ids.tolist()} == {2, 4}


def test_a_training_in_two_goes_gives_the_weights_of_one(tmp_path: Path):
    whole = IterationTraining(SMALL).run(tmp_path / "one")
    with pytest.raises(Stopped):
        IterationTraining(SMALL).run(tmp_path / "two", watch=Watch(stop_at))
    IterationTraining(SMALL).run(tmp_path / "two")
    first, second = (
        load_file(folder / "step-000004/model.safetensors") for folder in (whole, tmp_path / "two")
    )
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0, atol=0)
    assert sorted(p.name for p in whole.glob("step-*")) == ["step-000000", "step-000002", "step-000004"]
    assert list(read_json(whole / CARD)["learnt"]["4"]) == ["1", "2", "3", "4"]


def test_a_training_lowers_the_loss_and_its_net_loads_with_words_of_its_own(tmp_path: Path):
    course = IterationCourse("copy", longest=2, d_model=16, steps=60, rows=32, every=60, lr=1e-2, room=2)
    before = loss_of(drawn_net(course, 0), *course.batch(999, 0)).item()
    folder = IterationTraining(course).run(tmp_path / "copy")
    model = load(folder / "step-000060")
    assert loss_of(model.net, *course.batch(999, 0)).item() < 0.6 * before
    assert model.tokenizer.encode("copy 3 = 3 .") == coded("copy", np.array([[3]]))[0].tolist()
    assert model.config.iteration["task"] == "copy"
    assert right_sequences(model.net, "copy", 1) > 0.5


def test_whole_sequences_are_right_as_often_when_the_net_reads_its_own_steps():
    # a net that is right about half of the time: random weights and two symbols
    course = IterationCourse("parity", longest=3, d_model=8, room=3)
    net, length, rows = drawn_net(course, 3), 2, 200
    inputs = np.random.default_rng([1, length, 2**20]).integers(0, 2, size=(rows, length))
    ids = torch.from_numpy(coded("parity", inputs))
    said = ids[:, : length + 2]
    with torch.no_grad():
        for _ in range(length):
            said = torch.cat([said, net(input_ids=said).logits[:, -1:].argmax(-1)], dim=1)
    free = (said == ids[:, :-1]).all(1).double().mean()
    assert float(free) == right_sequences(net, "parity", length, rows)


def test_wrong_tasks_sizes_folders_and_rates_are_refused(tmp_path: Path):
    with pytest.raises(UnknownName, match="did you mean 'parity'"):
        IterationCourse("parety")
    with pytest.raises(BadInput, match="one length at least is trained on"):
        IterationCourse(longest=2, held_out=(1, 2))
    IterationTraining(SMALL).run(tmp_path / "one")
    with pytest.raises(RunMismatch, match="holds a training with other parameters"):
        IterationTraining(SMALL, seed=1).run(tmp_path / "one")
    with pytest.raises(NonFinite, match="smaller --lr"):
        IterationTraining(IterationCourse("copy", longest=2, d_model=8, steps=9, lr=1e30, rows=4)).run(
            tmp_path / "wild"
        )


def test_prompts_of_other_models_are_lines_of_letters_with_the_places_of_their_steps():
    model = tiny("llama")
    window = IterationPrompts("copy", (3,), 2, 1).windows(model, 0).items[0]
    about, ids = window.about, list(window.ids)
    inputs = ids[about["first"] : about["first"] + 3]
    assert ids[about["end"] + 1 : about["end"] + 4] == inputs
    assert about["queries"] == list(range(about["end"], about["end"] + 4))
    with pytest.raises(Refused, match="polynomial is asked only"):
        IterationPrompts("polynomial").windows(model, 0)
    with pytest.raises(BadInput, match="each 2 or more"):
        IterationPrompts(lengths=(1,))
    with pytest.raises(BadInput, match="reads 128, ask for shorter lengths"):
        IterationPrompts("copy", (60,)).windows(tiny("gpt2"), 0)


def test_the_verb_trains_and_says_how_many_sequences_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sizes = ["--longest", "2", "--d-model", "8", "--steps", "2", "--rows", "4"]
    with pytest.raises(SystemExit) as end:
        main(["iterate", "copy", *sizes, "--out", str(tmp_path / "c"), "--json"])
    assert not end.value.code
    assert set(json.loads(capsys.readouterr().out)["right"]) == {str(n) for n in range(1, 5)}
    assert (tmp_path / "c" / "step-000002" / "config.json").exists()
