"""Function vectors in files: saved and read again, added at the last position only, refused by other weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import depthscope as ds
from depthscope.analyses.function_vectors import FunctionVectors
from depthscope.cli import main
from depthscope.engine.function_file import Function, continued_under, function_of
from depthscope.errors import BadInput, LoadError, Refused, UnknownName
from depthscope.runtime.model import Model
from depthscope.runtime.run import run

FEW = FunctionVectors(tasks=("next_item",), shots=1, taken=1, corrupted=1, queries=1, heads=1, solved=0.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return ds.load("tiny-llama")


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("function") / "run"
    ds.audit(model, [FEW], text=["some words of text " * 4] * 2, tokens=64, window=32, out=out)
    return out


def test_a_function_of_a_run_is_the_same_from_its_file(folder: Path, tmp_path: Path):
    found = function_of(f"{folder}:next_item")
    again = function_of(found.save(tmp_path / "next.safetensors"))
    torch.testing.assert_close(again.vector, found.vector, rtol=0, atol=0)
    assert (again.task, again.state, again.weights) == ("next_item", found.state, found.weights)


def test_it_is_added_at_the_last_position_of_its_state_and_nowhere_else(model: Model, folder: Path):
    function = function_of(f"{folder}:next_item")
    function = Function(function.task, 2, function.vector, function.weights)
    ids = torch.tensor([[5, 9, 7]])
    clean, moved = (
        run(model, ids, read=["L1.resid_post"], edit=e)["L1.resid_post"] for e in ((), [function.edit(2.0)])
    )
    torch.testing.assert_close(moved[:, :-1], clean[:, :-1], rtol=0, atol=0)
    torch.testing.assert_close(moved[0, -1], clean[0, -1] + 2 * function.vector.double())


def test_a_huge_vector_towards_one_token_is_written_and_nothing_changes_without_it(model: Model):
    wanted = 40
    toward = 1e3 * model.net.lm_head.weight[wanted].detach().float()  # type: ignore[union-attr, index]
    function = Function("say", model.anatomy.n_layers, toward, str(model.provenance["weights_hash"]))
    (said,) = continued_under(model, function, ["a text"], new=2)
    assert said["with"] == model.tokenizer.decode([wanted, wanted])
    assert said["without"] != said["with"]


def test_other_weights_tasks_and_files_are_refused(folder: Path, model: Model, tmp_path: Path):
    function = function_of(f"{folder}:next_item")
    with pytest.raises(Refused, match="was taken from other weights"):
        continued_under(ds.load("tiny-gpt2"), function, ["a"])
    with pytest.raises(BadInput, match="nothing to continue"):
        continued_under(model, function, [])
    with pytest.raises(UnknownName, match="next_item"):
        function_of(f"{folder}:next_items")
    with pytest.raises(LoadError, match="no file of a function vector"):
        function_of(tmp_path / "none")
    (tmp_path / "other").write_text("text")
    with pytest.raises(LoadError, match="holds no function vector"):
        function_of(tmp_path / "other")


def test_the_verb_saves_and_continues(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "next.safetensors"
    asked = ["--function", f"{folder}:next_item", "--save", str(path), "--say", "one", "--new", "2", "--json"]
    with pytest.raises(SystemExit) as end:
        main(["steer", "tiny-llama", *asked])
    assert not end.value.code
    said = json.loads(capsys.readouterr().out)
    assert said["continued"][0]["prompt"] == "one"
    assert function_of(path).task == "next_item"
