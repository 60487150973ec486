"""Two models over the same texts: a changed layer parts a copy from its model, and maps are those of numpy."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from depthscope.engine.reading import Reading
from depthscope.engine.study import conduct
from depthscope.errors import BadInput, RunMismatch, UnknownName
from depthscope.fits import model_similarity
from depthscope.fits.model_similarity import ModelSimilarity
from depthscope.results.result import Result
from depthscope.runtime.embedded import installed
from depthscope.runtime.load import load
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import assembled, tiny

READING = Reading(tokens=64, window=32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    texts = [" ".join("".join(rng.choice(list("abcdefgh"), 4)) for _ in range(6)) for _ in range(18)]
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return str(path)


def small(source: str, other: Model | None = None) -> ModelSimilarity:
    return ModelSimilarity(source=source, texts=18, words=6, poolings=("mean",), neighbours=3, target=other)


def compared(study: ModelSimilarity, model: Model, out: Path) -> Result:
    return conduct("model_similarity", study, model, READING, out)["model_similarity"]


def fine_tuned(model: Model, layer: int) -> Model:
    """A copy whose layer `layer` has an MLP of other weights, under another name."""
    net = copy.deepcopy(model.net)
    with torch.no_grad():
        for parameter in net.model.layers[layer].mlp.parameters():
            torch.manual_seed(9)
            parameter.copy_(torch.randn_like(parameter))
    made = assembled(net, model.anatomy.family, "llama")
    return Model(made.net, made.tokenizer, made.anatomy, {"name": "tuned", "revision": "1"})


def states(model: Model, texts: list[str]) -> np.ndarray:
    """[state, text, d], by transformers alone, without the last state, which it gives after the final norm."""
    found: list[np.ndarray] = []
    for text in texts:
        with torch.no_grad():
            seen = model.net(
                torch.tensor([model.tokenizer.encode(text)]), output_hidden_states=True
            ).hidden_states
        found.append(np.stack([h[0].mean(0).numpy() for h in seen[:-1]]))
    return np.stack(found, 1)


def test_a_changed_layer_parts_two_models_from_there_on(source: str, tmp_path: Path) -> None:
    model = tiny("llama", torch.float64)
    found = compared(small(source, fine_tuned(model, 2)), model, tmp_path / "run")
    same = found["same_depth"].value[:, 0]
    np.testing.assert_allclose(same[:3], 1, atol=1e-9)
    assert (same[3:] < 0.9).all()
    assert found["best_match"].value[:3, 0].tolist() == [0, 1, 2]
    assert found["late_minus_early"].value[0] == pytest.approx(same[3:].mean() - same[:2].mean())
    assert found["late_minus_early"].value[0] < 0
    assert "tuned (across)" in found.findings.notes[0]
    assert "fewer than the 32 dimensions" in found.findings.notes[1]


def test_the_map_of_two_architectures_is_that_of_numpy(source: str, tmp_path: Path) -> None:
    one, two = tiny("llama", torch.float64), tiny("gpt2", torch.float64, seed=4, n_layer=2)
    found = compared(small(source, two), one, tmp_path / "run")
    texts = [json.loads(line)["text"] for line in Path(source).read_text(encoding="utf-8").splitlines()]
    left, right = (states(model, texts) for model in (one, two))
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            a, b = (m - m.mean(0) for m in (x, y))
            below = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
            cell = found["cka"].select(state=i, other_state=j, mode="mean").value
            np.testing.assert_allclose(cell, np.linalg.norm(a.T @ b) ** 2 / below, rtol=1e-5)
    cka = found["debiased_cka"].value[..., 0]
    np.testing.assert_allclose(found["same_depth"].value[:, 0], cka[np.arange(5), [0, 0, 1, 2, 2]])


def test_a_second_call_reads_no_text_again_and_another_model_is_another_run(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = tiny("llama", torch.float32), tiny("gpt2", torch.float32)
    first = compared(small(source, other), model, tmp_path / "run")
    monkeypatch.setattr(model_similarity, "pooled_views", None)
    again = compared(small(source, other), model, tmp_path / "run")
    np.testing.assert_array_equal(first["cka"].value, again["cka"].value)
    with pytest.raises(RunMismatch):
        compared(small(source), model, tmp_path / "run")


def test_random_weights_are_the_other_model_where_none_is_named(source: str, tmp_path: Path) -> None:
    found = compared(small(source), tiny("llama", torch.float32), tmp_path / "run")
    assert "untrained (across)" in found.findings.notes[0]
    assert np.isfinite(found["debiased_cka"].value).all()


def test_wrong_parameters_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="untrained"):
        ModelSimilarity(other="untrainde")
    with pytest.raises(BadInput, match="neighbours=0"):
        ModelSimilarity(neighbours=0)
    with pytest.raises(BadInput, match="no data at"):
        compared(ModelSimilarity(source="nowhere.txt"), tiny("llama", torch.float32), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.skipif(
    not (installed("minilm-l6") and installed("minilm-l6-sre")), reason="needs both MiniLM packages"
)
def test_fine_tuning_changes_late_states_of_minilm_more_than_early_ones(tmp_path: Path) -> None:
    base, tuned = load("minilm-l6", dtype="float32"), load("minilm-l6-sre", dtype="float32")
    found = compared(ModelSimilarity(texts=64, poolings=("mean",), target=tuned), base, tmp_path / "run")
    same = found["same_depth"].value[:, 0]
    assert same[0] > 0.999
    assert same[-1] < 0.9
    assert (np.diff(same) < 0).all()
    late = found["late_minus_early"]
    assert late.high is not None
    assert late.high[0] < 0
