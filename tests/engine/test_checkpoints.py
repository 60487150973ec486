"""A sweep over checkpoints: each is audited once, on the same windows; a broken one is named and the rest is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from transformers import AutoModelForCausalLM, LlamaConfig

import depthscope.engine.checkpoints as module
from depthscope.analyses.representation_profile import RepresentationProfile
from depthscope.engine.checkpoints import NAME, follow
from depthscope.engine.reading import Reading
from depthscope.engine.saved import in_folder, on_hub, step_of
from depthscope.engine.step_findings import births, changes, settled, stacked
from depthscope.errors import BadInput, LoadError, Refused, RunMismatch
from depthscope.fits.pair_text import trained_tokenizer
from depthscope.materials.text import Document
from depthscope.results.measurement import Measurement
from depthscope.runtime.model import Model
from depthscope.store.run import Run, open_run

STEPS = (0, 1, 8)
TEXTS = [f"Heron {k} stood in the water and waited for its {k + 2} fish all day." for k in range(9)]
ASKED = (RepresentationProfile(modes=("wei",), curved=("signed",)),)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three 'checkpoints': random weights of three seeds; the last one alone has a tokenizer."""
    folder = tmp_path_factory.mktemp("training")
    tokenizer = trained_tokenizer([Document("a", " ".join(TEXTS))], 257)
    config = LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    for step in STEPS:
        torch.manual_seed(step)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / f"step-{step}")
    tokenizer.save_pretrained(folder / f"step-{STEPS[-1]}")
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which checkpoints were loaded."""
    real, seen = module.load, []

    def counted(where: str, **how: Any) -> Model:
        seen.append(Path(where).name)
        return real(where, **how)

    monkeypatch.setattr(module, "load", counted)
    return seen


def swept(training: Path, out: Path, first: int = 0, **more: Any) -> Run:
    reading = Reading(TEXTS, tokens=400, window=32)
    return follow(in_folder(training)[first:], ASKED, out=out, reading=reading, **more)


@pytest.fixture(scope="module")
def run(training: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return swept(training, tmp_path_factory.mktemp("sweep") / "run", command="a command")


def test_a_sweep_holds_what_each_checkpoints_own_run_holds(run: Run):
    assert run.complete
    found = run[NAME]["prompt_entropy"]
    assert list(found.axes) == ["step", "state", "mode"]
    assert found.axes["step"].tolist() == list(STEPS)
    for place, step in enumerate(STEPS):
        own = open_run(run.path / NAME / f"step-{step}")
        assert own.manifest["data"]["hash"] == run.manifest["data"]["hash"]
        assert_allclose(found.value[place], own["representation_profile"]["prompt_entropy"].value)
        low = own["representation_profile"]["prompt_entropy"].low
        assert found.low is not None
        assert low is not None
        assert_allclose(found.low[place], low)
    assert run.manifest["command"] == "a command"
    total = np.abs(np.diff(found.value, axis=0)).sum(0)
    assert_allclose(run[NAME]["prompt_entropy_total_change"].value, total)


def test_what_is_finished_is_neither_loaded_nor_written_again(run: Run, training: Path, loads: list[str]):
    manifest = run.path / NAME / "step-1" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    swept(training, run.path)
    assert (loads, manifest.stat().st_mtime_ns) == ([], before)


def test_a_killed_sweep_goes_on_with_the_next_checkpoint(training: Path, tmp_path: Path, loads: list[str]):
    def dies(phase: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(training, tmp_path / "run", 1, progress=dies)
    assert loads == ["step-1"]
    assert swept(training, tmp_path / "run", 1).complete
    assert loads == ["step-1", "step-8"]


def test_a_broken_checkpoint_is_named_the_rest_is_kept_and_mending_it_is_enough(
    training: Path, tmp_path: Path, loads: list[str]
):
    copy = tmp_path / "training"
    shutil.copytree(training, copy)
    weights = copy / "step-1" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        LoadError, match=r"1 of 2 checkpoints gave no numbers.*other 1 are in.*step-1: LoadError"
    ):
        swept(copy, tmp_path / "run", 1)
    run = open_run(tmp_path / "run")
    assert not run.complete
    assert run[NAME]["prompt_entropy"].axes["step"].tolist() == [8]
    assert "step-1" in run[NAME].parameters["broken"]
    weights.write_bytes(whole)
    assert swept(copy, tmp_path / "run", 1)[NAME]["prompt_entropy"].axes["step"].tolist() == [1, 8]
    assert loads == ["step-1", "step-8", "step-1"]


def test_another_text_needs_another_folder_and_no_tokenizer_is_refused(
    run: Run, training: Path, tmp_path: Path
):
    with pytest.raises(RunMismatch, match="data"):
        follow(in_folder(training), ASKED, out=run.path, reading=Reading(TEXTS[:5], tokens=200, window=32))
    with pytest.raises(Refused, match=r"none of the 2 checkpoints \(step-0 to step-1\) has a tokenizer"):
        follow(in_folder(training)[:2], ASKED, out=tmp_path / "other")


def test_steps_are_read_from_names_and_revisions():
    names = {"step1000": 1000, "checkpoint-500": 500, "v2-step-000512-best": 512, "epoch3": 3, "main": None}
    assert {name: step_of(name) for name in names} == names
    found = on_hub("who/what", ["main=143000", "step512", "step1"])
    assert [(one.label, one.step, one.revision, one.where) for one in found] == [
        ("step1", 1, "step1", "who/what"), ("step512", 512, "step512", "who/what"),
        ("main", 143000, "main", "who/what"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("revisions", "words"),
    [
        (["main"], "main=143000"),
        (["main=last"], "not known"),
        (["step1", "a-step-1"], "one step, 1"),
        ([], "write"),
    ],
)
def test_revisions_without_a_step_or_with_one_twice_are_refused(revisions: list[str], words: str):
    with pytest.raises(BadInput, match=words):
        on_hub("who/what", revisions)


def test_folders_without_checkpoints_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="no such folder"):
        in_folder(tmp_path / "none")
    (tmp_path / "logs").mkdir()
    with pytest.raises(BadInput, match=r"holds no checkpoint.*logs"):
        in_folder(tmp_path)


def curve(value: list[float], low: bool = True) -> Measurement:
    values = np.asarray(value)
    bound = values - 1 if low else None
    return Measurement(
        "m", {"state": np.arange(len(values))}, values, "nats", bound, values + 1 if low else None
    )


def test_changes_and_settling_by_hand():
    found = stacked(
        "m", [curve([0.0, 5.0]), curve([2.0, 5.0]), curve([1.0, 5.0]), curve([1.05, 5.0])], (0, 1, 4, 9)
    )
    total, when = changes(found)
    assert_allclose(total.value, [2 + 1 + 0.05, 0.0])
    # the range of state 0 is 2: 2.0 is further than 0.2 from the last value, 1.0 is not
    assert_allclose(when.value, [4, 0])
    assert (total.unit, total.name, when.name) == ("nats", "m_total_change", "m_settled_step")
    assert_allclose(settled(np.array([[0.0], [1.0]]), np.array([3, 7])), [7])
    assert changes(stacked("m", [curve([1.0, 2.0], low=False)] * 2, (0, 1))) == ()


def test_a_label_of_heads_is_born_where_some_head_comes_to_keep_it():
    grid = {"role": np.array(["induction", "sink"]), "layer": np.arange(1), "head": np.arange(2)}
    there = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 1], [1, 1]], [[1, 0], [0, np.nan]]])[
        :, :, None
    ]
    found = stacked("role", [Measurement("role", grid, v, "1", missing="open") for v in there], (0, 1, 4, 9))
    (born,) = births(found)
    assert (born.name, list(born.axes)) == ("role_birth", ["role"])
    np.testing.assert_array_equal(born.value, [4, np.nan])
    assert births(stacked("m", [curve([1.0, 2.0])] * 2, (0, 1))) == ()
