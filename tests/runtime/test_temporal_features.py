"""Temporal features against their formula written out, what leaks in them, and the two ways of taking states apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import depthscope as ds
from depthscope.errors import BadInput, StoreError, UnknownName
from depthscope.runtime.predictor import Design, Predictor, Predictors, save_predictors
from depthscope.runtime.temporal_features import (
    Sizes,
    TemporalFeatures,
    TemporalFolder,
    load_temporal_features,
    save_temporal_features,
)
from depthscope.runtime.tiny import tiny

WIDTH = 8


def made(seed: int = 0) -> TemporalFeatures:
    torch.manual_seed(seed)
    found = TemporalFeatures(Sizes(WIDTH, heads=2, kept=3))
    found.mean.copy_(torch.randn(WIDTH))
    found.size.fill_(2.5)
    return found


def by_hand(net: TemporalFeatures, x: np.ndarray) -> np.ndarray:
    """The predictable part of one row, position by position."""
    w = {name: part.detach().numpy().astype(np.float64) for name, part in net.named_parameters()}
    codes = np.maximum(x @ w["dictionary"].T + w["bias"], 0)
    found = np.zeros_like(x)
    for t in range(1, len(x)):
        query, key, value = (
            w["query.weight"] @ x[t],
            codes[:t] @ w["key.weight"].T,
            codes[:t] @ w["value.weight"].T,
        )
        read = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            score = key[:, part] @ query[part] / np.sqrt(4)
            share = np.exp(score - score.max())
            read.append(share / share.sum() @ value[:, part])
        guess = np.maximum(w["out.weight"] @ np.concatenate(read) + w["out.bias"], 0) @ w["dictionary"]
        found[t] = (x[t] @ guess) / (guess @ guess) * guess
    return found


def test_the_predictable_part_is_the_formula_position_by_position() -> None:
    net, stream = made(), torch.randn(2, 6, WIDTH)
    x = net.scaled(stream)
    found = net(x)
    for row in range(2):
        expected = by_hand(net, x[row].detach().double().numpy())
        np.testing.assert_allclose(found.predictable[row].detach(), expected, atol=1e-5)
    rest = (x - found.predictable)[:, 1:]
    # what is left is at right angles to it, and the novel part uses few codes
    np.testing.assert_allclose((rest * found.predictable[:, 1:]).sum(-1).detach(), 0, atol=1e-5)


def test_parts_add_up_and_the_predictable_one_has_seen_its_own_token_but_no_later_one() -> None:
    net, stream = made(), torch.randn(1, 6, WIDTH)
    parts = net.split(stream)
    torch.testing.assert_close(parts.expected + parts.novel, stream[:, 1:])
    changed = stream.clone()
    changed[:, 4] += 1
    other = net.split(changed)
    # rows are positions 1..5
    torch.testing.assert_close(other.expected[:, :3], parts.expected[:, :3])
    assert not torch.isclose(other.expected[:, 3], parts.expected[:, 3]).all()


def test_a_folder_gives_back_what_was_saved_and_refuses_other_models(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    torch.manual_seed(1)
    net = TemporalFeatures(Sizes(model.anatomy.d_model))
    folder = save_temporal_features(tmp_path / "t", TemporalFolder({2: net}))
    back = load_temporal_features(folder, model)
    stream = torch.randn(1, 5, model.anatomy.d_model)
    torch.testing.assert_close(back.at(2).split(stream).expected, net.split(stream).expected)
    with pytest.raises(BadInput, match="no temporal features of layer 0; these were trained: layers 1"):
        back.at(1)
    save_temporal_features(tmp_path / "w", TemporalFolder({1: made()}))
    with pytest.raises(BadInput, match="temporal features of another model, of width"):
        load_temporal_features(tmp_path / "w", model)
    with pytest.raises(BadInput, match=r"there is no temporal\.json"):
        load_temporal_features(tmp_path / "none", model)
    next(folder.glob("*.safetensors")).write_bytes(b"no weights")
    with pytest.raises(StoreError, match="are damaged"):
        load_temporal_features(folder, model)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match="width=10, heads=4: the width is a multiple of the heads"):
        Sizes(10, heads=4)
    with pytest.raises(BadInput, match="read rows of 2 tokens or more"):
        made().split(torch.zeros(1, 1, WIDTH))


def test_decompose_takes_the_states_of_a_text_apart_either_way(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    torch.manual_seed(2)
    guess = Predictor(Design(heads=1, head_dim=4), model.anatomy.d_model)
    nets = TemporalFolder({2: TemporalFeatures(Sizes(model.anatomy.d_model))})
    folder = save_predictors(tmp_path / "p", Predictors({2: guess}))
    ids = torch.tensor([model.tokenizer.encode("a tide clerk")])
    seen = ds.run(model, ids, read=["L1.resid_post"])["L1.resid_post"]
    parts = ds.decompose(model, "a tide clerk", 1, folder)
    torch.testing.assert_close(parts.h, seen[:, 1:])
    torch.testing.assert_close(parts.expected, guess(seen)[:, :-1].detach())
    torch.testing.assert_close(parts.expected + parts.novel, parts.h)
    loaded = ds.decompose(model, ids, 1, Predictors({2: guess}))
    torch.testing.assert_close(loaded.expected, parts.expected)
    leaky = ds.decompose(model, ids, 1, nets, method="temporal-features")
    torch.testing.assert_close(leaky.expected, nets.at(2).split(seen).expected)


def test_decompose_tells_what_is_wrong(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    found = Predictors({2: Predictor(Design(heads=1, head_dim=4), model.anatomy.d_model)})
    with pytest.raises(UnknownName, match="did you mean 'predictor'"):
        ds.decompose(model, "a text", 1, found, method="predictors")
    with pytest.raises(BadInput, match="layer=9; tiny-llama has layers 0 to"):
        ds.decompose(model, "a text", 9, found)
    with pytest.raises(BadInput, match="no predictor of layer 0"):
        ds.decompose(model, "a text", 0, found)
    with pytest.raises(BadInput, match="cannot use Predictors"):
        ds.decompose(model, "a text", 1, found, method="temporal-features")
    with pytest.raises(BadInput, match="rows of several lengths are padded"):
        ds.decompose(model, ["a text", "another text"], 1, found)
    with pytest.raises(BadInput, match="depthscope fit predictor"):
        ds.decompose(model, "a text", 1, tmp_path / "none")
