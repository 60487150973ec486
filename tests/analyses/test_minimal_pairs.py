"""Minimal pairs against the model's own logits, and on a model that is wired to prefer one word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look

from depthscope.analyses.minimal_pairs import MinimalPairs
from depthscope.errors import BadInput, Refused
from depthscope.materials.minimal_pairs import MinimalPairSentences
from depthscope.runtime.tiny import tiny

TEXT = ["a text that nobody asks about"] * 2
ROWS = [
    {
        "sentence_good": "the cats run",
        "sentence_bad": "the cats runs",
        "UID": "number",
        "linguistics_term": "verbs",
    },
    {
        "sentence_good": "a dog sleeps",
        "sentence_bad": "a dog sleep",
        "UID": "number",
        "linguistics_term": "verbs",
    },
    {
        "sentence_good": "this hat",
        "sentence_bad": "these hat",
        "UID": "determiner",
        "linguistics_term": "nouns",
    },
]


def written(folder: Path, rows: list[dict[str, str]]) -> str:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_log_probabilities_are_those_of_the_models_own_logits(tmp_path: Path):
    model = tiny("llama", torch.float64)
    result = look(model, MinimalPairs(written(tmp_path, ROWS), 0), tmp_path, TEXT)
    logs: dict[str, float] = {}
    for text in {r[k] for r in ROWS for k in ("sentence_good", "sentence_bad")}:
        ids = torch.tensor([model.tokenizer.encode(text)])
        with torch.no_grad():
            scores = model.net(ids).logits[0, :-1].log_softmax(-1)
        logs[text] = float(scores.gather(1, ids[0, 1:, None]).sum())
    margins = np.array([logs[r["sentence_good"]] - logs[r["sentence_bad"]] for r in ROWS])
    np.testing.assert_allclose(result["margin"].scalar(), margins.mean(), rtol=1e-6)
    np.testing.assert_allclose(result["accuracy"].scalar(), (margins > 0).mean())
    np.testing.assert_allclose(result["paradigm_margin"].at(task="determiner"), margins[2], rtol=1e-6)
    np.testing.assert_allclose(result["field_accuracy"].at(feature="verbs"), (margins[:2] > 0).mean())
    good = [r["sentence_good"] for r in ROWS]
    loss = -sum(logs[g] for g in good) / sum(len(g) - 1 for g in good)
    np.testing.assert_allclose(result["good_loss"].scalar(), loss, rtol=1e-6)


def test_pairs_are_drawn_by_paradigm_and_both_sides_stand_together(tmp_path: Path):
    windows = MinimalPairSentences(written(tmp_path, ROWS), 1).windows(tiny("llama"), 0)
    assert len(windows.items) == 4
    assert {w.about["paradigm"] for w in windows.items} == {"number", "determiner"}
    assert [w.about["side"] for w in windows.items] == ["good", "bad"] * 2
    assert [w.document for w in windows.items] == ["pair-00000", "pair-00000", "pair-00001", "pair-00001"]


def test_the_grammar_gives_pairs_with_and_without_an_attractor():
    windows = MinimalPairSentences(pairs=5).windows(tiny("llama"), 0)
    by_paradigm = [w.about["paradigm"] for w in windows.items]
    assert {name: by_paradigm.count(name) for name in set(by_paradigm)} == {
        "no attractor": 10,
        "attractor": 10,
    }


def test_what_has_no_probability_and_no_pairs_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="no causal language model, so a sentence has no probability"):
        MinimalPairs().needs(tiny("bert").anatomy)
    with pytest.raises(BadInput, match="row 1 has no 'UID'"):
        MinimalPairSentences(written(tmp_path, [{"sentence_good": "a", "sentence_bad": "b"}])).windows(
            tiny("llama"), 0
        )
