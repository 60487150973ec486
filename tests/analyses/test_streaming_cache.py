"""Streaming caches on a model that needs what it drops, against losses of masked passes made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look
from torch import Tensor

from depthscope.analyses.streaming_cache import StreamingCache
from depthscope.errors import BadInput, EmptyMaterial, Refused, UnknownName
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

T = 24
TEXTS = [f"text number {k} of as many letters and more" for k in range(9)]


def read(model: Model, folder: Path, **changes: object) -> Result:
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"text": t}) for t in TEXTS), encoding="utf-8")
    asked = {"source": str(file), "texts": 9, "length": T, "budgets": (6,), "sinks": (0, 2), **changes}
    return look(model, StreamingCache(**asked), folder, TEXTS)  # type: ignore[arg-type]


def masked_losses(model: Model, start: int, recent: int) -> Tensor:
    """Losses of the second half by transformers' own pass under a mask that is given to it."""
    ids = torch.tensor([model.tokenizer.encode(t)[:T] for t in TEXTS])
    back = torch.arange(T)[:, None] - torch.arange(T)
    seen = (back >= 0) & ((back < recent) | (torch.arange(T) < start))
    with torch.no_grad():
        logits = model.net(ids, attention_mask=seen[None, None].expand(9, 1, T, T)).logits
    each = torch.nn.functional.cross_entropy(logits[:, :-1].mT, ids[:, 1:], reduction="none")
    return each[:, T // 2 - 1 :].mean()


def test_losses_are_those_of_masked_passes(tmp_path: Path):
    model = tiny("llama", num_hidden_layers=2)
    found = read(model, tmp_path)
    loss, full = found["loss"].value, float(found["full_loss"].value)
    for k, (start, recent) in enumerate([(0, 6), (2, 4)]):
        assert loss[0, 0, k] == pytest.approx(float(masked_losses(model, start, recent)), abs=1e-6)
    assert full == pytest.approx(float(masked_losses(model, 0, T)), abs=1e-6)
    np.testing.assert_allclose(found["excess"].value, loss - full, atol=1e-9)
    # without first keys there is nothing to count anew, with them rolling is another attention
    assert loss[1, 0, 0] == pytest.approx(loss[0, 0, 0], abs=1e-9)
    assert abs(loss[1, 0, 1] - loss[0, 0, 1]) > 1e-6
    assert np.isnan(loss[2, 0, 0])
    assert np.isfinite(loss[2, 0, 1])
    assert found["loss"].missing


def test_positions_that_are_no_rotations_leave_rolling_empty(tmp_path: Path):
    loss = read(tiny("gpt2", n_layer=2), tmp_path)["loss"].value
    assert np.isnan(loss[1, 0, 1])
    assert np.isfinite(loss[0]).all()


def test_what_has_no_cache_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="keeps no cache"):
        read(tiny("bert"), tmp_path)
    with pytest.raises(Refused, match="no layer has softmax attention heads"):
        read(tiny("mamba"), tmp_path)
    with pytest.raises(EmptyMaterial, match="no text of 100 tokens"):
        read(tiny("gpt2"), tmp_path, length=100)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budgets": (2,), "sinks": (0, 2)}, "more keys than its sinks"),
        ({"budgets": (700,)}, "must be shorter than the texts"),
        ({"variants": ("masks",)}, "unknown value of variants 'masks'; did you mean 'mask'"),
    ],
)
def test_caches_that_make_no_sense_are_refused(changes: dict[str, tuple[object, ...]], said: str):
    with pytest.raises((BadInput, UnknownName), match=said):
        StreamingCache(**changes)  # type: ignore[arg-type]
