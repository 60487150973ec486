"""States that keep, turn or drop the arrangement of texts, and maps against numpy over transformers' own states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from planted import SAID, SLOT, TOKEN, V, look, planted, value
from torch import Tensor

from depthscope.analyses.layer_similarity import LayerSimilarity
from depthscope.engine.audit import audit
from depthscope.errors import BadInput, UnknownName
from depthscope.runtime.tiny import tiny


def texts(count: int = 14) -> list[str]:
    """Words of letters at random."""
    rng = np.random.default_rng(0)
    return [" ".join("".join(rng.choice(list("abcdefgh"), 5)) for _ in range(8)) for _ in range(count)]


def source(tmp_path: Path, given: list[str]) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in given), encoding="utf-8")
    return str(path)


def turned(x: Tensor) -> Tensor:
    """Moves the token from its place in the stream to a free one: a rotation."""
    moved = torch.zeros_like(x)
    moved[..., SLOT], moved[..., TOKEN] = x[..., TOKEN], -x[..., TOKEN]
    return moved


def first_letters_only(x: Tensor) -> Tensor:
    """Erases all but the letters a to d, ids 39 to 42."""
    kept = sum(x[..., block][..., 39:43] for block in (SAID, SLOT)).clamp(0, 1).sum(-1, keepdim=True)
    return -x * (1 - kept)


def cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def test_a_turn_changes_nothing_and_dropping_letters_changes_as_much_as_counting_says(tmp_path: Path) -> None:
    given = texts()
    asked = LayerSimilarity(source(tmp_path, given), 14, 8, ("mean",), neighbours=3)
    found = look(
        planted({1: turned, 3: first_letters_only}, 5), asked, tmp_path, ["some text for the window"]
    )
    shares = np.stack([[text.count(c) / len(text) for c in "abcdefgh "] for text in given])
    expected = cka(shares, shares[:, :4])
    alike = value(found, "cka")[..., 0]
    np.testing.assert_allclose(alike[:4, :4], 1, atol=1e-6)
    np.testing.assert_allclose(alike[4:, 4:], 1, atol=1e-6)
    np.testing.assert_allclose(alike[:4, 4:], expected, rtol=1e-5)
    assert 0.1 < expected < 0.95
    change = value(found, "change")[:, 0]
    np.testing.assert_allclose(change[[0, 1, 2, 4]], 0, atol=1e-6)
    assert change[3] > 0.05
    np.testing.assert_allclose(value(found, "procrustes_distance")[:4, :4], 0, atol=1e-3)
    assert value(found, "knn_overlap")[0, 3, 0] == 1
    assert value(found, "knn_overlap")[0, 4, 0] < 1
    assert value(found, "svcca_kept")[4, 0] <= 14 // 5
    assert V == 64  # the ids above are those of this vocabulary


def test_maps_equal_the_formula_over_states_of_transformers(tmp_path: Path) -> None:
    model, given = tiny("gpt2", torch.float64, seed=2), texts(12)
    asked = LayerSimilarity(source(tmp_path, given), 12, 3, neighbours=2)
    run = audit(model, [asked], out=tmp_path / "run", text=given, tokens=64, window=32)
    vectors: list[np.ndarray] = []
    for row in pq.read_table(tmp_path / "run" / "inputs" / "passages.parquet").to_pylist():
        with torch.no_grad():
            seen = model.net(torch.tensor([list(row["ids"])]), output_hidden_states=True).hidden_states
        vectors.append(np.stack([h[0].mean(0).numpy() for h in seen[:-1]]))
    states = np.stack(vectors, 1)
    found = run["layer_similarity"]
    for i, one in enumerate(states):
        for j, other in enumerate(states):
            cell = found["cka"].select(state=i, other_state=j, mode="mean")
            np.testing.assert_allclose(cell.value, cka(one, other), rtol=1e-5)
            assert float(cell.low) <= float(cell.value) <= float(cell.high)
    assert "12 texts are fewer than the 32 dimensions" in found.findings.notes[0]
    np.testing.assert_allclose(
        value(found, "change")[0], 1 - found["debiased_cka"].select(state=0, other_state=1).value
    )


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"poolings": ("mena",)}, UnknownName, "mean"),
        ({"poolings": ()}, BadInput, "at least one pooling"),
        ({"neighbours": 0}, BadInput, "neighbours=0"),
        ({"share": 1.5}, BadInput, "share=1.5"),
    ],
)
def test_wrong_parameters_are_told(given: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        LayerSimilarity(**given)
