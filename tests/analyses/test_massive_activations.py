"""Massive entries written by hand: where they stand, what writes them, what taking them away costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import (
    LENGTH,
    SLOT,
    WIDTH,
    V,
    at_token,
    axis,
    constant,
    look,
    planted,
    text_of,
    the_answer,
    value,
)

from depthscope.analyses.massive_activations import MassiveActivations
from depthscope.errors import BadInput
from depthscope.results.result import Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

FIRST, SIZE, LAYER = 5, 4000.0, 1
TEXTS = [text_of([FIRST, *range(6 + 2 * k, 6 + 2 * k + LENGTH - 1)]) for k in range(9)]
ASKED = MassiveActivations(tokens=9 * LENGTH, documents=9, ratio=100.0)
EDITS = ("clean", "zero", "mean", "random")


def massive_first_tokens(sign: float = 1.0) -> Model:
    """Layer 0 says the next token, layer 1 writes one huge entry at the first token."""
    huge = at_token(FIRST, constant(axis(SLOT.start, sign * SIZE)))
    model = planted({0: the_answer(4.0), LAYER: huge}, n_layers=4)
    noise = torch.randn(V, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise[:, : 2 * V] = 0  # most of the planted stream is zero, and so would be its median
    with torch.no_grad():
        model.net.model.embed_tokens.weight.add_(noise)  # type: ignore[union-attr, operator]
    return model


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return look(massive_first_tokens(-1.0), ASKED, tmp_path_factory.mktemp("massive"), TEXTS)


def test_massive_entries_are_found_where_they_stand(result: Result):
    later = np.arange(5) > LAYER
    np.testing.assert_array_equal(value(result, "massive_share"), later)
    np.testing.assert_array_equal(value(result, "onset_share"), np.arange(5) == LAYER + 1)
    np.testing.assert_allclose(value(result, "massive_entries")[later], 1)
    np.testing.assert_allclose(value(result, "massive_channel"), np.where(later, SLOT.start, np.nan))
    np.testing.assert_allclose(value(result, "first_position_share"), np.where(later, 1, np.nan))
    np.testing.assert_allclose(value(result, "top_magnitude")[later], SIZE, rtol=1e-3)
    np.testing.assert_allclose(value(result, "variation")[later], 0, atol=1e-9)
    np.testing.assert_allclose(value(result, "sign")[later], -1)
    entries = result.findings.examples["entries"]
    assert set(entries.columns["token"]) == {chr(33 + FIRST % 94)}
    assert len(entries) == 9 * 3


def test_without_the_entry_the_first_token_speaks_again(result: Result):
    loss = dict(zip(EDITS, value(result, "loss"), strict=True))
    # the entry hides behind the final norm what layer 0 said at position 0; the mean of equal entries is the entry
    assert loss["zero"] != pytest.approx(loss["clean"], abs=1e-3)
    assert loss["mean"] == pytest.approx(loss["clean"], abs=1e-9)
    assert value(result, "loss_increase")[1] == pytest.approx(loss["zero"] - loss["clean"])
    silent = planted({0: the_answer(4.0)}, n_layers=4)
    with torch.no_grad():
        table = silent.net.model.embed_tokens.weight  # type: ignore[union-attr]
        table.copy_(massive_first_tokens().net.model.embed_tokens.weight)  # type: ignore[union-attr, operator]
        table[FIRST, SLOT.start] = 0  # type: ignore[index, operator]
    ids = torch.tensor([silent.tokenizer.encode(t) for t in TEXTS])
    with torch.no_grad():
        logits = silent.net(ids).logits  # type: ignore[operator]
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss["zero"] == pytest.approx(float(expected), abs=1e-6)


def test_the_neuron_that_writes_the_entry_is_named(tmp_path: Path):
    model = tiny("llama", torch.float64, num_hidden_layers=3)
    with torch.no_grad():
        model.net.model.layers[1].mlp.down_proj.weight[5, 3] = 1e5  # type: ignore[union-attr, index]
    asked = MassiveActivations(tokens=9 * LENGTH, documents=9, ratio=50.0)
    found = look(model, asked, tmp_path, TEXTS)
    np.testing.assert_allclose(value(found, "massive_channel")[2:], 5)
    np.testing.assert_allclose(value(found, "producer_neuron"), [np.nan, 3, np.nan])
    assert value(found, "producer_share")[1] == pytest.approx(1, abs=1e-3)
    seen = run(model, Batch.of_ids([model.tokenizer.encode(TEXTS[0])]), read=["L1.resid_post"])
    assert int(seen["L1.resid_post"].abs().amax((0, 1)).argmax()) == 5


def test_a_model_without_massive_entries_has_nothing_to_edit(tmp_path: Path):
    found = look(tiny("gpt2", torch.float64), MassiveActivations(tokens=96, documents=4), tmp_path, TEXTS)
    assert value(found, "massive_share").max() == 0
    for name in ("loss", "sink_share", "bias_constancy", "producer_neuron"):
        assert np.isnan(value(found, name)).all()
        assert found[name].missing


def test_criteria_that_mean_nothing_are_refused():
    with pytest.raises(BadInput, match=r"ratio=1\.0 \(times the median\) must be above 1"):
        MassiveActivations(ratio=1.0)
