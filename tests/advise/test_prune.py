"""Pruning: a layer that does nothing is found and goes; verdicts, budgets, resuming, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from depthscope.advise import pruning
from depthscope.advise.candidates import Criteria, proposed
from depthscope.advise.prune import Prune
from depthscope.cli import main
from depthscope.engine.reading import Reading
from depthscope.engine.study import conduct
from depthscope.errors import BadInput, LawBroken, Refused
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store.run import Run

TEXTS = [f"the {k} cats sat on mat {k * k} and went {'away' if k % 2 else 'home'} again" for k in range(10)]
READING = Reading(TEXTS, tokens=400, window=40)
QUICK = Prune(remove=1, needed=2, prompt=4, new=1, batches=(1,), warmup=0, repeats=1, lazy=2, beam=1)
IDLE = 2


@pytest.fixture(scope="module")
def model() -> Model:
    """Five layers, the middle one of which writes nothing."""
    found = tiny("llama", torch.float32, num_hidden_layers=5)
    with torch.no_grad():
        for layer in found.anatomy.layers:
            for weight in layer.block.parameters():
                weight.mul_(1.7)
        idle = cast(Any, found.anatomy.layers[IDLE].block)
        idle.self_attn.o_proj.weight.zero_()
        idle.mlp.down_proj.weight.zero_()
    return found


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows: list[dict[str, Any]] = [
        {"task": "sums", "kind": "math", "prompt": f"{k}+{k}=", "answer": 2 * k, "length": 2}
        for k in range(6)
    ]
    rows += [
        {
            "task": "pick",
            "kind": "choice",
            "prompt": f"pick {k}:",
            "options": ["abc", "de"],
            "answer": "A",
            "length": 2,
        }
        for k in range(6)
    ]
    path = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def pruned(model: Model, out: Path, **changes: Any) -> Run:
    return conduct("prune", replace(QUICK, **changes), model, READING, out)


@pytest.fixture(scope="module")
def run(model: Model, tasks: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pruned(model, tmp_path_factory.mktemp("prune") / "run", tasks=tasks)


def test_the_layer_that_does_nothing_goes_and_nothing_changes(run: Run, model: Model):
    about = run["prune"].findings.artefacts["checkpoint"]
    assert (about["removed"], about["kept"]) == ([IDLE], [0, 1, 3, 4])
    found = run["prune"]
    chosen = int(found["chosen"].value.argmax())
    assert abs(found["loss_increase"].value[chosen]) < 1e-6
    assert found["influence"].value.argmin() == found["loss_alone"].value.argmin() == IDLE
    net = cast(Any, AutoModelForCausalLM.from_pretrained(run.path / "checkpoint"))
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert_close(net(input_ids=ids).logits, cast(Any, model.net)(input_ids=ids).logits)


def test_tasks_are_verified_on_the_items_that_were_not_chosen_by(run: Run):
    found = run["prune"]
    assert list(found["difference"].axes["task"]) == [
        "sums by generation",
        "pick by generation",
        "pick by likelihood",
    ]
    np.testing.assert_array_equal(found["difference"].value, 0.0)
    np.testing.assert_array_equal(found["difference"].n, 3)
    assert list(found.findings.examples["verdicts"].columns["verdict"]) == ["undecided"] * 3
    trials = found.findings.examples["candidates"].columns["tasks"]
    assert all("n = 3" in text for text in trials)


def test_speed_and_size_stand_beside_the_share_of_layers(run: Run):
    found, notes = run["prune"], run["prune"].findings.notes
    assert found["parameters"].at(model="shortened") < found["parameters"].at(model="intact")
    assert found["cache_bytes"].at(model="shortened") == 0.8 * found["cache_bytes"].at(model="intact")
    assert notes[0].startswith("Removed 1 of 5 layers (20.0 %): 2 ")
    assert any(note.startswith("Gained, for 20.0 % of the layers: parameters") for note in notes)
    assert any("decode" in note and "against" in note and " x)" in note for note in notes)
    card = (run.path / "checkpoint" / "README.md").read_text()
    assert notes[0] in card


def test_the_first_and_the_last_layer_stay_with_the_reason(run: Run):
    table = run["prune"].findings.examples["protected"].columns
    reasons = dict(zip(table["layer"].tolist(), table["reason"].tolist(), strict=True))
    assert (reasons[0], reasons[4]) == ("first", "last")


def test_a_second_call_repeats_nothing_and_a_killed_one_goes_on(
    model: Model, tasks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(pruning, "export", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pruned(model, tmp_path / "run", tasks=tasks)
    assert not (tmp_path / "run" / "checkpoint").exists()
    for name in ("criteria", "increases", "measured_in_turns"):
        monkeypatch.setattr(pruning, name, None)
    first = pruned(model, tmp_path / "run", tasks=tasks)
    monkeypatch.setattr(pruning, "export", None)
    again = pruned(model, tmp_path / "run", tasks=tasks)
    assert again["prune"].findings.notes == first["prune"].findings.notes


def test_a_loaded_checkpoint_that_answers_otherwise_is_not_kept(
    model: Model, tasks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = pruning.score

    def otherwise(*args: Any, **more: Any) -> Any:
        found = real(*args, **more)
        return replace(found, correct=tuple(not c for c in found.correct))

    monkeypatch.setattr(pruning, "score", otherwise)
    with pytest.raises(LawBroken, match="answers items of 'sums' otherwise"):
        pruned(model, tmp_path / "run", tasks=tasks)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_without_tasks_it_says_that_nothing_was_verified_by_tasks(model: Model, tmp_path: Path):
    found = pruned(model, tmp_path / "run", remove=0, budget=1.0, most=2)["prune"].findings
    assert found.artefacts["checkpoint"]["removed"] == [
        IDLE
    ]  # a second layer costs more than 1 % of perplexity
    assert any(note.startswith("Nothing was verified by tasks") for note in found.notes)
    assert "score" not in found.measurements


def test_a_budget_that_nothing_meets_exports_nothing(model: Model, tasks: str, tmp_path: Path):
    with pytest.raises(Refused, match=r"no removal keeps the rise of perplexity within 1e-06 %"):
        pruned(model, tmp_path / "a", remove=0, budget=1e-6, protect=(IDLE,), most=1)
    with pytest.raises(
        Refused, match=r"a budget of 5 points is not shown to be met: sums .* more items.*--remove"
    ):
        pruned(model, tmp_path / "b", remove=0, budget=5.0, tasks=tasks, most=1)
    assert [*tmp_path.rglob("checkpoint"), *tmp_path.rglob("*.safetensors")] == []


def test_what_cannot_begin_is_refused(model: Model, tasks: str, tmp_path: Path):
    for changes, said in (
        ({"remove": 1, "budget": 2.0}, "not both or neither"),
        ({"remove": 0}, "not both or neither"),
        ({"remove": 4}, "4 layers cannot be removed: tiny-llama has 5"),
        ({"margin": 0.0}, "above 0 and below 100"),
        ({"protect": (9,)}, r"layers \[9\] cannot be protected; tiny-llama has layers 0 to 4"),
        ({"tasks": tasks, "needed": 50}, "a task needs 50 items, sums has 6"),
        ({"tasks": str(tmp_path / "none.jsonl")}, "there is no data at"),
    ):
        with pytest.raises(BadInput, match=said):
            replace(QUICK, **cast(dict[str, Any], changes)).check(model)
    with pytest.raises(Refused, match="is no causal language model"):
        QUICK.check(tiny("bert"))
    with pytest.raises(
        BadInput, match=r"3 layers are to go, fewer of tiny-llama are free; these stay: 0: first"
    ):
        pruned(model, tmp_path / "run", remove=3, protect=(1,))


def test_sets_that_no_configuration_can_say_are_left_out():
    jamba = tiny("jamba")  # experts at 1 and 3, attention at 1 and 4
    scores = Criteria((0.0,) * 5, ((0.0,) * 5,), (3.0, 1.0, 0.0, 2.0, 4.0), {0: "first"})
    found = proposed(jamba, scores, [(4,)], 1)
    assert [c.removed for c in found] == [(1,), (4,)]
    with pytest.raises(Refused, match=r"no set of 1 layers of tiny-jamba can be removed: without \[2\]"):
        proposed(jamba, replace(scores, kept_back=dict.fromkeys((0, 1, 3, 4), "asked for")), [], 1)


def called(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(cast(int, ended.value.code))


def test_the_verb_leaves_a_checkpoint_and_says_what_it_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = str(tmp_path / "run")
    flags = [
        "--remove",
        "1",
        "--tokens",
        "128",
        "--window",
        "32",
        "--no-report",
        "--repeats",
        "1",
        "--dtype",
        "float32",
        "--out",
        out,
    ]
    assert called(["prune", "tiny-llama", *flags]) == 0
    said = capsys.readouterr().out
    assert "Removed 1 of 4 layers (25.0 %)" in said
    assert "Nothing was verified by tasks" in said
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint").config.num_hidden_layers == 3
    assert called(["prune", "tiny-llama"]) == 2
    assert "either --remove N or --budget P" in capsys.readouterr().err
