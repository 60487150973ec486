"""Training temporal features lowers what they leave, and says what it cannot train on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from depthscope.engine.reading import Reading
from depthscope.errors import BadInput
from depthscope.fits.temporal_features import fit_temporal_features
from depthscope.runtime.run import run
from depthscope.runtime.temporal_features import load_temporal_features
from depthscope.runtime.tiny import tiny

READING = Reading(tokens=1024, window=32)


def test_training_lowers_what_is_left_and_leaves_a_folder(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    first = fit_temporal_features(model, [1], tmp_path / "a", READING, steps=1, rows=4)
    fit_temporal_features(model, [1], tmp_path / "b", READING, steps=40, rows=4)
    stream = run(
        model, torch.tensor([model.tokenizer.encode("The tide clerk wrote it down.")]), read=["L1.resid_post"]
    )
    h = stream["L1.resid_post"]

    def left(folder: Path) -> float:
        net = load_temporal_features(folder, model).at(2)
        x = net.scaled(h)[:, 1:]
        found = net(net.scaled(h))
        return float((x - found.predictable[:, 1:] - found.novel[:, 1:]).square().mean())

    assert left(tmp_path / "b") < 0.9 * left(tmp_path / "a")
    assert first.card["tokens"] == 4 * 32
    assert first.card["model"]["name"] == "tiny-llama"


def test_what_it_cannot_train_on_is_told(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    with pytest.raises(BadInput, match=r"layers=\[77\]; tiny-llama has layers 0 to"):
        fit_temporal_features(model, [77], tmp_path, READING)
    with pytest.raises(BadInput, match="windows of 32 tokens, a step needs 900"):
        fit_temporal_features(model, [1], tmp_path, READING, rows=900)
