"""Sink content: planted vectors are read for what was put in, and position 0 of a causal model knows nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look

from depthscope.analyses.sink_content import SinkContent
from depthscope.engine.needs import Facts
from depthscope.engine.sink_probes import KINDS, probed
from depthscope.engine.tally import PerDocument
from depthscope.errors import BadInput
from depthscope.materials.sink_documents import SinkDocuments
from depthscope.measures.token_probes import ridge_predictions
from depthscope.runtime.tiny import tiny

RNG = np.random.default_rng(0)
SMALL = SinkContent(documents=9, length=16, most=20)
TEXT = ["a text that nobody asks about"] * 2


def planted() -> dict[str, np.ndarray]:
    """Sinks hold the label, other tokens their word and place, the first token a constant; state 0 is the word."""
    documents, each = 30, 4
    rows = [(d, k, kind) for d in range(documents) for k in range(each) for kind in range(3)]
    label = np.array([f"kind-{d % 3}" for d, _, _ in rows])
    position = np.array([0 if kind == 0 else int(RNG.integers(1, 30)) for _, _, kind in rows])
    words = RNG.normal(size=(len(rows), 4))
    hidden = 0.1 * RNG.normal(size=(len(rows), 8))
    for i, (d, _, kind) in enumerate(rows):
        if kind == 0:
            words[i], hidden[i] = 1, 1
        elif kind == 1:
            hidden[i, d % 3] += 1
        else:
            hidden[i, :4] += words[i]
            hidden[i, 4] += position[i]
    vectors = np.stack([np.concatenate([words, np.zeros((len(rows), 4))], 1), hidden], 1)
    return {
        "vectors": vectors.astype(np.float32),
        "kind": np.array([k for _, _, k in rows], np.int8),
        "position": position,
        "label": label,
        "unit": np.array([f"d{d:02d}" for d, _, _ in rows]),
    }


def test_each_kind_is_read_for_what_it_holds():
    facts = Facts(1, 1, 8, ("attention",), (None,), True, False, False, True, "documents", 0)
    spread = PerDocument.of(["d00"], np.zeros((1, 2)))
    found = probed(planted(), spread, [0, 1], facts, 1000).measurements

    def of(name: str, kind: str) -> float:
        return found[name].at(state=1, sinks=kind)

    assert of("label_accuracy", "sink") > 0.95
    assert of("label_accuracy", "normal") < 0.55
    assert of("label_accuracy", "first") < 0.5
    np.testing.assert_allclose(found["label_majority"].scalar(), 1 / 3)
    assert of("own_cosine", "normal") > 0.9
    assert abs(of("own_cosine", "sink")) < 0.3
    assert of("position_error", "normal") < 0.5
    assert of("position_error", "sink") > 4
    assert found["label_gap"].low[1] > 0.3
    assert found["own_gap"].high[1] < -0.5
    assert found["tokens"].value.tolist() == [120, 120, 120]


def test_position_0_of_a_causal_model_is_the_same_in_every_window_and_of_an_encoder_it_is_not(tmp_path: Path):
    causal = look(tiny("llama", torch.float64), SMALL, tmp_path / "causal", TEXT)
    assert causal["first_spread"].value.max() == 0
    first = causal["label_accuracy"].select(sinks="first").value
    assert np.ptp(first) == 0, "equal vectors are given one and the same label at every state"
    encoder = look(tiny("bert", torch.float64), SMALL, tmp_path / "encoder", TEXT)
    assert encoder["first_spread"].value[0] == 0
    assert encoder["first_spread"].value[-1] > 1e-3


def test_too_few_sinks_are_said_and_leave_gaps(tmp_path: Path):
    result = look(tiny("llama", torch.float64), SMALL, tmp_path, TEXT)
    assert result["tokens"].at(sinks="sink") < 20
    assert np.isnan(result["label_gap"].value).all()
    assert any("a probe needs 20" in note for note in result.findings.notes)
    assert list(result["label_accuracy"].axes["sinks"]) == list(KINDS)


def test_windows_stand_behind_one_first_token_and_have_one_length():
    windows = SinkDocuments(documents=9, length=16, each=2).windows(tiny("llama"), 0)
    assert {w.ids[0] for w in windows.items} == {1}
    assert {len(w.ids) for w in windows.items} == {16}
    assert len(windows.documents) == 9


def test_a_ridge_of_equal_vectors_predicts_the_mean_and_a_linear_target_is_read():
    x, y = RNG.normal(size=(60, 5)), RNG.normal(size=(5, 2))
    np.testing.assert_allclose(ridge_predictions(x[:50], x[:50] @ y + 3, x[50:]), x[50:] @ y + 3, atol=0.05)
    np.testing.assert_allclose(
        ridge_predictions(np.ones((4, 3)), np.arange(4.0)[:, None], np.ones((2, 3))), 1.5
    )


def test_wrong_parameters_and_data_are_named(tmp_path: Path):
    with pytest.raises(BadInput, match=r"length=8 \(tokens a window\) must be 16 or more"):
        SinkContent(length=8)
    path = tmp_path / "plain.jsonl"
    path.write_text('{"text": "without a label"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"plain\.jsonl has no label"):
        SinkDocuments(str(path)).windows(tiny("llama"), 0)
