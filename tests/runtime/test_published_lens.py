"""Published tuned lenses: the layout, both spellings of the hash, refusals, the hub, and the test of the index."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthscope.errors import BadInput, MissingPackage
from depthscope.runtime.lens_folder import LensNotice, load_lens
from depthscope.runtime.model import Model
from depthscope.runtime.published_lens import index_test
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny
from depthscope.runtime.verify import probe


@pytest.fixture(scope="module")
def model() -> Model:
    found = tiny("gpt2", torch.float32)
    return replace(found, provenance={"name": "some/model", "revision": "abc"})


def fitted(model: Model) -> dict[str, torch.Tensor]:
    """A lens by least squares on random ids, in numpy: translator i maps hidden state i to the last one."""
    ids = torch.randint(3, 90, (24, 12), generator=torch.Generator().manual_seed(1))
    states = run(model, ids, read=["L0.resid_pre", "L*.resid_post"]).states()[:, :, 1:].flatten(1, 2).numpy()
    found = {}
    for i in range(len(states) - 1):
        x = np.concatenate([states[i], np.ones((states.shape[1], 1))], axis=1).astype(np.float64)
        solution = np.linalg.solve(x.T @ x + 1e-3 * np.eye(x.shape[1]), x.T @ (states[-1] - states[i]))
        found[f"{i}.weight"] = torch.from_numpy(solution[:-1].T.copy()).float()
        found[f"{i}.bias"] = torch.from_numpy(solution[-1].copy()).float()
    return found


def stated_hash(model: Model) -> str:
    """sha256 of numpy's printed form at one decimal, as the published package computes it."""
    weight = model.net.lm_head.weight.detach().numpy()
    return hashlib.sha256(str.encode(np.array_str(weight, precision=1))).hexdigest()


def published(folder: Path, model: Model, parameters: dict[str, torch.Tensor], **changes: Any) -> Path:
    config = {
        "base_model_name_or_path": "some/model", "d_model": model.anatomy.d_model, "bias": True,
        "num_hidden_layers": model.anatomy.n_layers, "base_model_revision": None, "unemebd_hash": stated_hash(model),
        "lens_type": "linear_tuned_lens",
    }  # fmt: skip
    config = {key: value for key, value in {**config, **changes}.items() if value != "absent"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(parameters, folder / "params.pt")
    return folder


def moved(parameters: dict[str, torch.Tensor], by: int) -> dict[str, torch.Tensor]:
    """The lens with translator i + by at place i, in a circle."""
    n = len(parameters) // 2
    return {
        f"{i}.{part}": parameters[f"{(i + by) % n}.{part}"] for i in range(n) for part in ("weight", "bias")
    }


@pytest.mark.parametrize("spelling", ["unembed_hash", "unemebd_hash"])
def test_a_published_folder_loads_without_a_word_under_both_spellings(
    model: Model, tmp_path: Path, spelling: str
):
    parameters = fitted(model)
    hashes = {"unemebd_hash": "absent", spelling: stated_hash(model)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lens = load_lens(published(tmp_path / "a", model, parameters, **hashes), model)
    assert lens.kind == "tuned"
    h = torch.randn(3, model.anatomy.d_model)
    expected = h + h @ parameters["1.weight"].T + parameters["1.bias"]
    torch.testing.assert_close(lens.at(1, h), expected)
    assert lens.about["index_test"]["best"] == "as_is"
    assert lens.about["published"]["lens_type"] == "linear_tuned_lens"


@pytest.mark.parametrize(
    ("hashes", "said"),
    [
        ({"unemebd_hash": "absent"}, "no hash"),
        ({"unemebd_hash": "00"}, "not that of"),
        ({"unembed_hash": "00"}, "not that of"),
    ],
    ids=["absent", "misspelt and wrong", "wrong"],
)
def test_a_hash_that_is_absent_or_wrong_is_a_warning(
    model: Model, tmp_path: Path, hashes: dict[str, str], said: str
):
    with pytest.warns(LensNotice, match=said):
        load_lens(published(tmp_path, model, fitted(model), **hashes), model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_model_name_or_path": "some/model-v0"}, "'some/model-v0', the model is 'some/model'"),
        ({"base_model_revision": "def"}, "revision 'def'"),
    ],
    ids=["name", "revision"],
)  # fmt: skip
def test_a_lens_of_another_model_or_revision_is_refused_unless_forced(
    model: Model, tmp_path: Path, changes: dict[str, str], said: str
):
    folder = published(tmp_path, model, fitted(model), **changes)
    with pytest.raises(BadInput, match=said):
        load_lens(folder, model)
    with pytest.warns(LensNotice, match=said):
        load_lens(folder, model, force=True)


def test_only_the_last_part_of_a_name_and_no_case_tell_models_apart(model: Model, tmp_path: Path):
    load_lens(published(tmp_path, model, fitted(model), base_model_name_or_path="Model"), model)


@pytest.mark.parametrize("by", [1, -1])
def test_translators_one_state_away_are_caught(model: Model, tmp_path: Path, by: int):
    folder = published(tmp_path, model, moved(fitted(model), by))
    with pytest.raises(BadInput, match=r"one state away.*mean KL in nats: as_is"):
        load_lens(folder, model)
    with pytest.warns(LensNotice, match="one state away"):
        lens = load_lens(folder, model, force=True)
    assert lens.about["index_test"]["best"] == ("minus_one" if by == 1 else "plus_one")


def test_the_numbers_of_the_index_test_are_mean_divergences(model: Model, tmp_path: Path):
    parameters = fitted(model)
    lens = load_lens(published(tmp_path, model, parameters), model)
    batch = probe(model).inputs["input_ids"]
    with torch.no_grad():
        out = model.net(batch, output_hidden_states=True)
        states, last = [h[:, 1:] for h in out.hidden_states[:-1]], out.logits[:, 1:].log_softmax(-1)

        def kl(state: int, translator: int) -> float:
            h = states[state]
            h = h + h @ parameters[f"{translator}.weight"].T + parameters[f"{translator}.bias"]
            guess = model.net.lm_head(model.net.transformer.ln_f(h)).log_softmax(-1)
            return float((last.exp() * (last - guess)).sum(-1).mean())

        n = len(states)
        expected = {
            "as_is": np.mean([kl(s, s) for s in range(n)]),
            "plus_one": np.mean([kl(s, s + 1) for s in range(n - 1)]),
            "minus_one": np.mean([kl(s, s - 1) for s in range(1, n)]),
        }
    found = index_test(lens, model)
    np.testing.assert_allclose(
        [found[name] for name in expected], list(expected.values()), rtol=1e-3, atol=1e-6
    )


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("was_here"),))


def test_a_pickle_that_holds_code_is_not_run(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = published(tmp_path / "lens", model, fitted(model))
    (folder / "params.pt").write_bytes(pickle.dumps({"0.weight": Malicious()}, protocol=2))
    with pytest.raises(BadInput, match="no plain weights"):
        load_lens(folder, model)
    assert not (tmp_path / "was_here").exists()


def test_missing_translators_are_named(model: Model, tmp_path: Path):
    parameters = fitted(model)
    del parameters["2.bias"]
    with pytest.raises(BadInput, match=r"has no 2\.bias"):
        load_lens(published(tmp_path, model, parameters), model)


def test_a_published_lens_of_another_width_is_refused(model: Model, tmp_path: Path):
    d = model.anatomy.d_model + 1
    n = model.anatomy.n_layers
    parameters = {f"{i}.weight": torch.zeros(d, d) for i in range(n)} | {
        f"{i}.bias": torch.zeros(d) for i in range(n)
    }
    with pytest.raises(BadInput, match=f"of width {d}"):
        load_lens(published(tmp_path, model, parameters), model)


@pytest.fixture
def hub(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """A stand-in for the hub's client: files under `tmp_path`, and what was asked for."""
    asked: list[tuple[str, str, str]] = []

    def download(repo_id: str, filename: str, *, repo_type: str) -> str:
        asked.append((repo_id, repo_type, filename))
        path = tmp_path / "hub" / filename
        if not path.exists():
            raise OSError(f"404: {filename}")
        return str(path)

    client = types.ModuleType("huggingface_hub")
    client.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    published(tmp_path / "hub" / "lens" / "some/model", model, fitted(model))
    for name in ("TUNED_LENS_REPO_ID", "TUNED_LENS_REPO_TYPE"):
        monkeypatch.delenv(name, raising=False)
    return asked


@pytest.mark.parametrize("source", ["hub", "hub:some/model"])
def test_the_hub_space_is_asked_for_both_files(model: Model, hub: list[tuple[str, str, str]], source: str):
    assert load_lens(source, model).kind == "tuned"
    where = ("AlignmentResearch/tuned-lens", "space")
    assert hub == [(*where, "lens/some/model/config.json"), (*where, "lens/some/model/params.pt")]


def test_the_environment_names_another_place(
    model: Model, hub: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TUNED_LENS_REPO_ID", "me/lenses")
    monkeypatch.setenv("TUNED_LENS_REPO_TYPE", "model")
    load_lens("hub", model)
    assert {each[:2] for each in hub} == {("me/lenses", "model")}


def test_a_lens_that_the_hub_does_not_have_is_named(model: Model, hub: list[tuple[str, str, str]]):
    with pytest.raises(BadInput, match=r"hub:nothing.*lens/nothing.*AlignmentResearch/tuned-lens"):
        load_lens("hub:nothing", model)


def test_without_the_client_the_command_that_installs_it_is_said(
    model: Model, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage, match=r"pip install 'depthscope\[hub\]'"):
        load_lens("hub", model)
