"""A lens comes back from the disk as it was saved, is never half there, and is refused for another model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from depthscope.errors import BadInput, StoreError
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.lens_folder import CARD, LensNotice, load_lens, model_card, save_lens
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store import atomic


def lens_of(model: Model, seed: int = 0, **about: object) -> Lens:
    g = torch.Generator().manual_seed(seed)
    n, d = model.anatomy.n_layers, model.anatomy.d_model
    weight, bias = torch.randn(n, d, d, generator=g), torch.randn(n, d, generator=g)
    return Lens("tuned", "tuned", weight, bias, {"model": model_card(model), **about})


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("gpt2", torch.float32)


def test_a_saved_lens_comes_back_with_its_numbers_and_its_card(model: Model, tmp_path: Path):
    lens = lens_of(model, command="how it was made", quality={"kl": [1.0, None]})
    save_lens(lens, tmp_path / "lens")
    found = load_lens(tmp_path / "lens", model)
    torch.testing.assert_close(found.weight, lens.weight, rtol=0, atol=0)
    torch.testing.assert_close(found.bias, lens.bias, rtol=0, atol=0)
    assert (found.identity, found.kind, found.name) == (lens.identity, "tuned", "tuned")
    assert found.about["command"] == "how it was made"
    assert found.about["quality"] == {"kl": [1.0, None]}
    assert found.about["model"] == model_card(model)


def test_logit_is_the_logit_lens_and_has_nothing_to_save(model: Model, tmp_path: Path):
    assert load_lens("logit", model) is LOGIT
    with pytest.raises(BadInput, match="no weights to save"):
        save_lens(LOGIT, tmp_path)


@pytest.mark.parametrize("when", [1, 2])
def test_a_save_that_is_stopped_leaves_the_old_lens(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
):
    old, new = lens_of(model, 1), lens_of(model, 2)
    save_lens(old, tmp_path)
    replaced = Path.replace
    calls: list[Path] = []

    def stopped(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == when:
            raise KeyboardInterrupt
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_lens(new, tmp_path)
    monkeypatch.undo()
    assert load_lens(tmp_path, model).identity == old.identity
    save_lens(new, tmp_path)
    assert load_lens(tmp_path, model).identity == new.identity
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_full_disk_is_an_error_and_leaves_no_lens(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StoreError, match="No space"):
        save_lens(lens_of(model), tmp_path / "lens")
    monkeypatch.undo()
    with pytest.raises(BadInput, match="there is no lens"):
        load_lens(tmp_path / "lens", model)


@pytest.mark.parametrize("where", ["nowhere", "empty"])
def test_a_folder_without_a_lens_is_named(model: Model, tmp_path: Path, where: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=f"{where}: there is no lens.*depthscope fit"):
        load_lens(tmp_path / where, model)


def test_a_lens_of_another_width_or_depth_is_refused_also_when_forced(model: Model, tmp_path: Path):
    n, d = model.anatomy.n_layers, model.anatomy.d_model
    for layers, width in ((n, d + 1), (n - 1, d)):
        found = Lens("ridge", "ridge", torch.zeros(layers, width, width), torch.zeros(layers, width))
        for force in (False, True):
            with pytest.raises(BadInput, match=rf"{layers} layers of width {width}.*has {n} of width {d}"):
                load_lens(found, model, force=force)


def test_a_lens_of_other_weights_is_refused_unless_forced(model: Model, tmp_path: Path):
    save_lens(lens_of(model), tmp_path)
    other = tiny("gpt2", torch.float32, seed=9)
    with pytest.raises(BadInput, match="unembedding differs"):
        load_lens(tmp_path, other)
    with pytest.warns(LensNotice, match="used all the same"):
        assert load_lens(tmp_path, other, force=True).weight is not None


def test_a_lens_of_another_revision_is_refused_unless_forced(model: Model, tmp_path: Path):
    other = tiny("gpt2", torch.float32, seed=9)
    first, second = (
        replace(m, provenance={"name": "m", "revision": r})
        for m, r in ((model, "step1000"), (other, "step2000"))
    )
    save_lens(lens_of(first), tmp_path)
    assert load_lens(tmp_path, first).kind == "tuned"
    with pytest.raises(BadInput, match=r"revision 'step1000'.*revision 'step2000'"):
        load_lens(tmp_path, second)
    with pytest.warns(LensNotice, match="step1000"):
        load_lens(tmp_path, second, force=True)


def test_a_model_with_the_same_unembedding_and_other_layers_is_another_model(model: Model, tmp_path: Path):
    save_lens(lens_of(model), tmp_path)
    other = tiny("gpt2", torch.float32)
    with torch.no_grad():
        other.net.transformer.h[0].mlp.c_fc.weight.mul_(2.0)
    with pytest.raises(BadInput, match="weights differ"):
        load_lens(tmp_path, other)


def test_the_same_checkpoint_in_bfloat16_is_the_same_model(model: Model, tmp_path: Path):
    save_lens(lens_of(model), tmp_path)
    half = tiny("gpt2", torch.bfloat16)
    assert load_lens(tmp_path, half).kind == "tuned"
    renamed = replace(half, provenance={"name": "another"})
    with pytest.raises(BadInput, match="'another' in bfloat16"):
        load_lens(tmp_path, renamed)


def test_damage_is_named(model: Model, tmp_path: Path):
    save_lens(lens_of(model), tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    weights = tmp_path / card["weights"]
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="damaged"):
        load_lens(tmp_path, model)
    weights.write_bytes(whole[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(StoreError, match=r"are not those that lens.json names"):
        load_lens(tmp_path, model)
    weights.unlink()
    with pytest.raises(StoreError, match="damaged"):
        load_lens(tmp_path, model)
    (tmp_path / CARD).write_text(json.dumps({**card, "schema": 99}))
    with pytest.raises(StoreError, match="schema 99"):
        load_lens(tmp_path, model)
