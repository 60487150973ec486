"""Layer quality: a label that is wired into known states is found there; scores against other libraries; gaps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import SLOT, V, Write, look, planted, text_of
from scipy.stats import spearmanr
from torch import Tensor

from depthscope.analyses.layer_quality import LayerQuality
from depthscope.engine.quality_tasks import processed
from depthscope.errors import BadInput, EmptyMaterial, UnknownName
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

LABEL = torch.zeros(V, 3, dtype=torch.float64)
LABEL[torch.arange(V), torch.randperm(V, generator=torch.Generator().manual_seed(4)) % 3] = 1
TEXTS = [text_of([t]) for t in range(4, V)]
KIND = LABEL.argmax(1)[4:].tolist()
READ_AT = 2


def tells(size: float) -> Write:
    """Writes the label of the current token into three free numbers of the stream."""

    def write(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[..., SLOT.start : SLOT.start + 3] = size * x[..., V : 2 * V] @ LABEL.to(x)
        return added

    return write


def written(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def classes(folder: Path) -> str:
    return written(folder, "kinds", [{"text": t, "label": k} for t, k in zip(TEXTS, KIND, strict=True)])


def pairs(folder: Path) -> str:
    """Neighbours in the list; alike where they have one label."""
    rows = [
        {"text_a": TEXTS[i], "text_b": TEXTS[i + 1], "score": 1.0 * (KIND[i] == KIND[i + 1]) + 0.01 * i}
        for i in range(len(TEXTS) - 1)
    ]
    return written(folder, "alike", rows)


def asked(model: Model, folder: Path, source: str, **more: Any) -> Result:
    how: dict[str, Any] = {"limit": 0, "modes": ("mean",), "draws": 3, **more}
    return look(model, LayerQuality(source, **how), folder, ["abcdefghijklmnopqrstuvwxyz"])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A model that writes the label after block 1 and takes it away after block 2."""
    folder = tmp_path_factory.mktemp("quality")
    model = planted({1: tells(20.0), 2: tells(-20.0)}, n_layers=4)
    return asked(model, folder, f"{classes(folder)},{pairs(folder)}", modes=("mean", "mean+norm"))


def test_the_label_is_found_at_the_one_state_that_holds_it(found: Result) -> None:
    score = found["score"]
    for name in ("few_shot", "ridge", "knn", "v_measure"):
        for mode in ("mean", "mean+norm"):
            curve = score.select(task="kinds", score=name, mode=mode).value
            assert curve[READ_AT] > 0.99, (name, mode)
            assert np.delete(curve, READ_AT).max() < 0.6, (name, mode)
    curve = score.select(task="alike", score="spearman", mode="mean").value
    assert curve[READ_AT] > 0.7
    assert np.delete(curve, READ_AT).max(initial=-1, where=np.isfinite(np.delete(curve, READ_AT))) < 0.4


def test_the_best_state_is_sure_and_its_gain_lies_above_zero(found: Result) -> None:
    at = {"task": "kinds", "score": "few_shot", "mode": "mean"}
    best = found["best_state"].select(**at)
    assert (float(best.value), best.low, best.high) == (READ_AT, READ_AT, READ_AT)
    np.testing.assert_array_equal(found["best_share"].select(**at).value, np.eye(5)[READ_AT])
    np.testing.assert_array_equal(found["as_good"].select(**at).value, np.eye(5)[READ_AT])
    gain = found["gain"].select(**at)
    assert gain.low is not None
    assert gain.low > 0.2
    assert found["gain_seen"].at(**at) >= found["gain"].at(**at)


def test_main_scores_are_those_of_each_kind(found: Result) -> None:
    for task, name in (("kinds", "few_shot"), ("alike", "spearman")):
        np.testing.assert_array_equal(
            found["main_score"].select(task=task).value, found["score"].select(task=task, score=name).value
        )
    assert np.isnan(found["score"].select(task="alike", score="ridge").value).all()
    assert "another kind of task" in found["score"].missing


def test_controls_know_nothing_of_the_label(found: Result) -> None:
    share = max(KIND.count(k) for k in range(3)) / len(KIND)
    control = found["control"]
    assert control.at(task="kinds", score="ridge", variant="majority") == pytest.approx(share)
    for name in ("few_shot", "ridge", "knn"):
        for variant in ("tfidf", "shuffled"):
            assert control.at(task="kinds", score=name, variant=variant) < 0.6, (name, variant)
    assert abs(control.at(task="alike", score="spearman", variant="shuffled")) < 0.4


def test_a_label_that_stays_to_the_end_gives_the_earlier_states_no_gain(tmp_path: Path) -> None:
    model = planted({3: tells(20.0)}, n_layers=4)
    found = asked(model, tmp_path, classes(tmp_path), scores=("knn", "ridge"))
    for name in ("knn", "ridge"):
        gain = found["gain"].select(task="kinds", score=name, mode="mean")
        assert found["best_state"].at(task="kinds", score=name, mode="mean") == 4
        assert gain.high is not None
        assert gain.high < -0.2
    assert tuple(found["score"].axes["score"]) == ("ridge", "knn")


def test_scores_of_pairs_are_those_of_transformers_and_scipy(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    rows = [
        {"text_a": f"one text {k}", "text_b": f"{k * k} of another", "score": (k * 7) % 5} for k in range(30)
    ]
    found = asked(model, tmp_path, written(tmp_path, "sts", rows))
    vectors = {}
    for text in {row[side] for row in rows for side in ("text_a", "text_b")}:
        ids = torch.tensor([model.tokenizer.encode(str(text))])
        with torch.no_grad():
            states = model.net(ids, output_hidden_states=True).hidden_states  # type: ignore[operator]
        vectors[text] = torch.stack([s[0].mean(0) for s in states[:-1]])
    cosines = torch.stack(
        [torch.cosine_similarity(vectors[r["text_a"]], vectors[r["text_b"]], dim=-1) for r in rows], 1
    )
    expected = [np.asarray(spearmanr(c, [r["score"] for r in rows]))[0] for c in cosines.numpy()]
    curve = found["score"].select(task="sts", score="spearman", mode="mean").value
    np.testing.assert_allclose(curve[:-1], expected, atol=0.02)  # cosines that differ by rounding may swap


def test_empty_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"text": t, "label": k} for t, k in zip(TEXTS, KIND, strict=True)]
    rows += [{"text": "", "label": 1}]
    found = asked(tiny("llama"), tmp_path, written(tmp_path, "kinds", rows), scores=("knn",))
    assert found["score"].n is not None
    assert set(found["score"].n.ravel()) == {len(TEXTS)}
    assert any("kinds: 1 items left out" in note for note in found.findings.notes)
    nothing = [{"text_a": "", "text_b": "", "score": k} for k in range(3)]
    with pytest.raises(EmptyMaterial, match="no text with a token"):
        asked(tiny("llama"), tmp_path / "b", written(tmp_path, "nothing", nothing))


def test_few_examples_of_a_label_are_halved_and_said(tmp_path: Path) -> None:
    rows = [{"text": t, "label": "rare" if k < 5 else "common"} for k, t in enumerate(TEXTS)]
    found = asked(tiny("llama"), tmp_path, written(tmp_path, "kinds", rows), scores=("few_shot",))
    assert any("1 labels have 8 items or fewer" in note for note in found.findings.notes)


def test_processing_takes_away_the_mean_and_what_is_largest() -> None:
    draw = np.random.default_rng(0)
    plain = draw.normal(size=(1, 40, 6))
    ruled = plain.copy()
    ruled[..., 2] = 1e4 + 1e3 * draw.normal(size=(1, 40))
    standard = processed(ruled.astype(np.float32), "standard")
    np.testing.assert_allclose(standard.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(1), 1, atol=1e-5)
    without = processed(ruled.astype(np.float32), "abtt")
    assert np.abs(without[..., 2]).max() < 1e-2 * np.abs(without[..., 1]).max()
    centred = (ruled - ruled.mean(1))[0]
    first = np.linalg.eigh(centred.T @ centred)[1][:, -1:]
    np.testing.assert_allclose(without[0], centred - centred @ first @ first.T, atol=2e-3)
    ruled[0, 3, 1] = np.nan
    assert np.isnan(processed(ruled.astype(np.float32), "abtt")).all()


WRONG = [
    ({"modes": ("maen",)}, UnknownName, "did you mean 'mean'"),
    ({"modes": ("mean+nrom",)}, UnknownName, "did you mean 'norm'"),
    ({"modes": ("mean+standard+abtt",)}, BadInput, "take one"),
    ({"modes": ()}, BadInput, "one mode or more"),
    ({"modes": ("mean", "mean")}, BadInput, "each once"),
    ({"scores": ("f1",)}, UnknownName, "unknown score"),
    ({"shots": 0}, BadInput, "shots=0"),
    ({"limit": -1}, BadInput, "limit=-1"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), WRONG, ids=[m for _, _, m in WRONG])
def test_wrong_parameters_are_refused(
    parameters: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LayerQuality(**parameters)


def test_wrong_files_are_refused_before_anything_is_concluded(tmp_path: Path) -> None:
    one = written(tmp_path, "one", [{"text": t, "label": "x"} for t in TEXTS[:9]])
    with pytest.raises(BadInput, match="every item has the class 'x'"):
        asked(tiny("llama"), tmp_path, one)
    file = classes(tmp_path)
    with pytest.raises(BadInput, match="two task files are named 'kinds'"):
        asked(tiny("llama"), tmp_path, f"{file},{file}")
    with pytest.raises(BadInput, match="has none of the scores spearman; it has few_shot"):
        asked(tiny("llama"), tmp_path, file, scores=("spearman",))
