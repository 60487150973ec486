"""Minimal pairs against the model's own logits, and on a model that is wired to prefer one word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look

from depthscope.analyses.minimal_pairs import MinimalPairs
from depthscope.errors import BadInput, Refused
from depthscope.materials.minimal_pairs import MinimalPairSentences
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import PlainTokenizer, tiny

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


def test_pseudo_log_likelihoods_cover_each_token_once_and_no_special_one(tmp_path: Path):
    model = framed(tiny("bert", torch.float64))
    result = look(model, MinimalPairs(written(tmp_path, ROWS), 0), tmp_path, TEXT)
    logs = {text: covered(model, text) for r in ROWS for text in (r["sentence_good"], r["sentence_bad"])}
    margins = np.array([logs[r["sentence_good"]] - logs[r["sentence_bad"]] for r in ROWS])
    np.testing.assert_allclose(result["margin"].scalar(), margins.mean(), rtol=1e-6)
    np.testing.assert_allclose(result["accuracy"].scalar(), (margins > 0).mean())
    np.testing.assert_allclose(result["paradigm_margin"].at(task="determiner"), margins[2], rtol=1e-6)
    good = [r["sentence_good"] for r in ROWS]
    np.testing.assert_allclose(
        result["good_loss"].scalar(), -sum(logs[g] for g in good) / sum(map(len, good)), rtol=1e-6
    )
    assert result["good_loss"].n_items == sum(map(len, good))
    assert "each covered in turn" in result["margin"].note


class Framed(PlainTokenizer):
    """A tokenizer that puts one token before and two behind every text."""

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        own = super().encode(text)
        return [1, *own, 1, 0] if add_special_tokens else own


def framed(model: Model) -> Model:
    return replace(model, tokenizer=Framed(len(model.tokenizer)))


def covered(model: Model, text: str) -> float:
    """Sum over the characters of a text of the log-probability of each, with the mask in its place."""
    ids = torch.tensor(model.tokenizer.encode(text))
    total = 0.0
    for place in range(1, 1 + len(text)):
        seen = ids.clone()
        seen[place] = model.tokenizer.mask_token_id
        with torch.no_grad():
            total += float(model.net(seen[None]).logits[0, place].log_softmax(-1)[ids[place]])
    return total


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
    with pytest.raises(Refused, match=r"no unembedding \(no next-token and no masked head\)"):
        MinimalPairs().needs(replace(tiny("bert").anatomy, unembed=None))
    bare = tiny("bert")
    bare.tokenizer.mask_token_id = None
    with pytest.raises(Refused, match="its tokenizer has no mask token"):
        MinimalPairSentences(pairs=2, masked=True).windows(bare, 0)
    with pytest.raises(BadInput, match="row 1 has no 'UID'"):
        MinimalPairSentences(written(tmp_path, [{"sentence_good": "a", "sentence_bad": "b"}])).windows(
            tiny("llama"), 0
        )
