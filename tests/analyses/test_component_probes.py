"""Probes on parts of streams in which a domain and a token kind are planted; tables, notes and wrong inputs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from planted import SLOT, WIDTH, V, look, planted, text_of
from sklearn.metrics import f1_score
from torch import Tensor

from depthscope.analyses.component_probes import ComponentProbes
from depthscope.engine import probe_findings
from depthscope.engine.probe_findings import Probed
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.results.result import Result
from depthscope.runtime.predictor import Design, Predictor, Predictors, save_predictors
from depthscope.runtime.temporal_features import (
    Sizes,
    TemporalFeatures,
    TemporalFolder,
    save_temporal_features,
)
from depthscope.runtime.tiny import tiny

WINDOW, DOCUMENTS = 16, 15
MARKS = {"alpha": 3, "beta": 4, "gamma": 5}
"""The token that opens the documents of each domain; no other one tells them apart."""
QUICK = {"penalties": (1.0, 0.01), "steps": 100, "window": WINDOW, "reserve": 0.0}


def remembered(x: Tensor) -> Tensor:
    """A write that keeps the first token of the text in the slot at every position."""
    added = torch.zeros_like(x)
    added[..., SLOT] = x[:, :1, V : 2 * V]
    return added


def texts(path: Path) -> str:
    """Documents that open with their domain's token and go on at random: digits, letters and brackets."""
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"{name}{k}", "domain": name, "text": text_of([mark, *rng.integers(6, V, WINDOW - 1)])}
        for name, mark in MARKS.items() for k in range(DOCUMENTS)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def copier(path: Path) -> str:
    """A predictor that expects the slot to stay as it is and nothing else."""
    found = Predictor(Design(kind="linear", norm="none", rope=False, residual="none", window=1), WIDTH)
    keep = torch.zeros(WIDTH, WIDTH)
    keep[SLOT, SLOT] = torch.eye(V)
    with torch.no_grad():
        found.blocks[0].out.weight.copy_(keep)  # type: ignore[union-attr, operator]
        found.blocks[0].out.bias.zero_()  # type: ignore[union-attr, operator]
    return str(save_predictors(path, Predictors({1: found, 2: copy.deepcopy(found)})))


def seen(tmp_path: Path, **more: object) -> Result:
    model = planted({0: remembered}, 2)
    given = {"predictor": copier(tmp_path / "p"), "source": texts(tmp_path / "d.jsonl"), **QUICK, **more}
    return look(model, ComponentProbes(**given), tmp_path, ["unread text " * 4], WINDOW)  # type: ignore[arg-type]


def test_each_part_tells_what_was_planted_in_it_and_nothing_else(tmp_path: Path) -> None:
    result = seen(tmp_path, probed=6)
    f1 = result["f1"].select(score="macro_f1")
    domain, kind = (
        {name: f1.at(task=task, feature=name, layer=1) for name in f1.axes["feature"].tolist()}
        for task in ("domain", "token_type")
    )
    # the slot holds the domain and is expected; the token is new
    for name in ("h", "expected", "both", "h_scaled", "both_reduced", "h_and_expected"):
        assert domain[name] > 0.95, name
    assert domain["novel"] < 0.6
    assert kind["novel"] > kind["expected"] + 0.3
    assert kind["h"] > kind["expected"] + 0.3
    assert max(domain["shuffled"], kind["shuffled"]) < 0.6
    difference = result["difference"].select(score="macro_f1", variant="causal", layer=1)
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low[0] > 0
    assert difference.high[1] < 0
    ordering = result["ordering"].select(score="macro_f1", variant="causal")
    expected = [
        result["difference"].select(task=t, score="macro_f1", variant="causal").value.mean()
        for t in ("domain", "token_type")
    ]
    np.testing.assert_allclose(ordering.value, expected, rtol=1e-9)
    assert np.isnan(result["ordering"].select(variant="leaky").value).all()
    assert "no temporal features" in result["ordering"].missing


def test_the_table_ships_the_class_of_every_probed_token(tmp_path: Path) -> None:
    result = seen(tmp_path, controls=())
    table = result.findings.examples["token_classes"].to_dataframe()
    assert table["count"].sum() == 3 * DOCUMENTS * 4
    by = dict(zip(table["token"], table["class"], strict=True))
    assert {by.get(c) for c in "0123456789"} <= {"digits", None}
    assert by.get("A", "letters") == "letters"
    said = " ".join(result.findings.notes)
    assert "domain: 3 classes, 180 items of 45 documents (108 to train, 36 to choose, 36 to test)" in said
    assert "token_type: left out, too rare: " in said


def test_leaky_parts_stand_beside_the_causal_ones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nets = {s: TemporalFeatures(Sizes(WIDTH)) for s in (1, 2)}
    leaky = str(save_temporal_features(tmp_path / "t", TemporalFolder(nets)))
    result = seen(tmp_path, leaky=leaky, controls=())
    assert result["f1"].axes["feature"].tolist()[-2:] == ["leaky_expected", "leaky_novel"]
    assert np.isfinite(result["ordering"].value).all()


def made(split: list[int], labels: list[str]) -> dict[str, np.ndarray]:
    return {
        "label": np.array(labels), "split": np.array(split), "type": np.zeros(len(split), int),
        "unit": np.array([f"d{k}" for k in range(len(split))]),
    }  # fmt: skip


def test_a_class_that_is_absent_from_training_or_test_is_left_out_and_named() -> None:
    labels = ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c", "d"]
    items = made([0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 2], labels)
    found = Probed.of("domain", {"h": np.zeros((1, 11, 3))}, items)
    assert found.names == ("a", "b")
    assert found.absent == ("c", "d")
    assert found.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    with pytest.raises(BadInput, match="token_type: 1 of 1 classes"):
        Probed.of("token_type", {"h": np.zeros((1, 11, 3))}, items)


def test_controls_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    parts = {name: rng.normal(size=(1, 40, 5)) for name in ("expected", "novel")}
    parts["h"] = parts["expected"] + parts["novel"]
    one = Probed("domain", parts, np.arange(40) % 2, np.arange(40) % 3, np.arange(40), ("a", "b"), ())
    scaled = one.input("h_scaled", 0)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), np.linalg.norm(parts["novel"][0], axis=1))
    assert one.input("both_reduced", 0).shape == one.input("h", 0).shape
    # [h, expected] spans what [expected, novel] spans
    joined = np.concatenate([one.input("both", 0), one.input("h_and_expected", 0)], 1)
    assert np.linalg.matrix_rank(joined) == 10


def test_draws_resample_documents_and_whole_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    said, true, unit = rng.integers(0, 3, 60), rng.integers(0, 3, 60), np.arange(60) // 6
    counts = probe_findings._by_unit(probe_findings.f1_counts(said, true, 3), unit)
    assert counts.shape == (10, 3, 3)
    assert probe_findings.macro_f1(counts.sum(0)) == pytest.approx(f1_score(true, said, average="macro"))
    twice = probe_findings.resampled(counts, np.array([[2.0] + [0.0] * 9]))
    first = unit == 0
    expected = f1_score(true[first], said[first], average="macro")
    assert probe_findings.macro_f1(twice)[0] == pytest.approx(expected)


def test_wrong_inputs_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'shuffled'"):
        ComponentProbes(controls=("shufled",))
    with pytest.raises(BadInput, match=r"penalties=\(\) must be one number or more, each 0 or more"):
        ComponentProbes(penalties=())
    with pytest.raises(Refused, match="depthscope fit predictor"):
        ComponentProbes().needs(tiny("llama").anatomy)
    with (
        mock.patch("depthscope.analyses.component_probes.LARGEST", 10),
        pytest.raises(BadInput, match="lower per_label"),
    ):
        seen(tmp_path)
