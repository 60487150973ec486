"""Matches that are equal are found by the wired pair, and labels are told apart by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look

from depthscope.analyses.fuzzy_induction import FuzzyInduction
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.fuzzy_pairs import LABELS, PAIRS, FuzzyPairs
from depthscope.runtime.tiny import tiny

TEXTS = ["the tide came in and went out " * 4 for _ in range(9)]


def test_places_and_ends_are_where_words_and_labels_stand() -> None:
    model = tiny("llama", torch.float32)
    found = FuzzyPairs(("synonym",), prompts=3, shown=2).windows(model, 0)
    for window in found.items:
        about, ids = window.about, window.ids
        assert [ids[p] for p in about["places"]] == about["labels"]
        assert len(set(about["labels"])) == 2
        assert about["queries"] == [len(ids) - 1]
        ends = {model.tokenizer.encode(word[-1])[0] for pair in PAIRS["synonym"] for word in pair}
        assert {ids[e] for e in about["ends"]} <= ends
    assert len({w.ids for w in found.items}) == 3


def test_the_lists_hold_each_word_once_and_no_label() -> None:
    for relation, pairs in PAIRS.items():
        words = [word for word, _ in pairs]
        assert len(set(words)) == len(words) == 8
        assert relation == "same" or all(word != variant for word, variant in pairs)
        assert not {word for pair in pairs for word in pair} & set(LABELS)


def test_advantage_accuracy_and_nearest_are_those_of_the_models_own_outputs(tmp_path: Path) -> None:
    model = tiny("llama", torch.float64)
    asked = FuzzyInduction(("same", "case"), prompts=2, shown=2)
    result = look(model, asked, tmp_path, TEXTS)
    model.net.set_attn_implementation("eager")  # type: ignore[operator]
    gaps, right, nearest = [], [], []
    for window in FuzzyPairs(("same", "case"), 2, 2).windows(model, 0).items[:2]:
        out = model.net(torch.tensor([window.ids]), output_attentions=True, output_hidden_states=True)
        rows = torch.stack(out.attentions)[:, 0, :, -1].detach().numpy()
        answer, (a, b) = window.about["answer"], window.about["places"]
        gaps.append((rows[..., a] - rows[..., b]) * (1 if answer == 0 else -1))
        right.append(int(out.logits[0, -1, window.about["labels"]].argmax()) == answer)
        first, second, last = out.hidden_states[0][0, window.about["ends"]].detach()
        like = [float(torch.cosine_similarity(x, last, dim=0)) for x in (first, second)]
        nearest.append(int(np.argmax(like)) == answer)
    np.testing.assert_allclose(result["advantage"].select(relation="same").value, np.mean(gaps, 0), atol=1e-6)
    assert result["accuracy"].at(relation="same") == np.mean(right)
    assert result["nearest"].at(relation="same", state=0) == np.mean(nearest)


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(Refused, match="no label follows a prompt"):
        FuzzyInduction().needs(tiny("bert").anatomy)
    with pytest.raises(UnknownName, match="synonym"):
        FuzzyPairs(("synonyms",))
    with pytest.raises(BadInput, match="shown=1"):
        FuzzyPairs(shown=1)
