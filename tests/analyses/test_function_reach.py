"""Function reach: a planted procedure does every letter, planted knowledge the frequent ones only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import SAID, SLOT, axis, following
from planted_tasks import PICK, asked, observed, vectors_of, written
from torch import Tensor

from depthscope.analyses.function_reach import FunctionReach
from depthscope.engine.whole_answers import whole_answers
from depthscope.errors import BadInput, Refused
from depthscope.materials.invented import RULES, invented, invented_pairs, rule_of, word_counts
from depthscope.results.result import Findings
from depthscope.runtime.edits import Edit
from depthscope.runtime.generate import generate
from depthscope.runtime.tiny import tiny

A = 39
"""The id of the letter a; letters up to y follow."""
LETTERS = "abcdefgh"
COUNTS = {letter: 100 - 10 * k for k, letter in enumerate(LETTERS)}
PAIRS = [(x, chr(ord(x) + 1)) for x in LETTERS]
VECTORS = {"procedure": axis(PICK), "knowledge": axis(PICK, -1)}


def answering(x: Tensor) -> Tensor:
    """Says the letter after the one four tokens back; with the number turned only if it is one of the first four."""
    held = x[..., SLOT].clone()
    pick = held[..., :1].clone()
    letter = ((held > 0.5) & (held < 1.5)).to(x)
    letter[..., :3] = 0
    known = torch.zeros_like(letter)
    known[..., A : A + 4] = letter[..., A : A + 4]
    added = torch.zeros_like(x)
    added[..., SAID] = 40 * torch.where(pick > 0.5, following(letter), following(known)) * (pick.abs() > 0.5)
    return added


def counted(folder: Path) -> str:
    path = folder / "counts.tsv"
    path.write_text("word\tcount\n" + "".join(f"{word.upper()}\t{n}\tx\n" for word, n in COUNTS.items()))
    return str(path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("reach")
    pairs = {"procedure": PAIRS, "knowledge": PAIRS, "unsolved": PAIRS}
    source = written(folder, pairs)
    how = FunctionReach(source, counts=counted(folder), words=4, shots=1)
    return observed(asked(answering), how, vectors_of(source, pairs, VECTORS))


def test_a_procedure_does_rare_words_and_knowledge_does_the_frequent_ones_only(found: Findings):
    accuracy, lost = found.measurements["accuracy"], found.measurements["lost"]
    for task, rare in (("procedure", 1), ("knowledge", 0)):
        assert accuracy.at(task=task, bucket="frequent", variant="vector") == 1
        assert accuracy.at(task=task, bucket="rare", variant="vector") == rare
        assert accuracy.at(task=task, bucket="frequent", variant="nothing") == 0
        assert lost.at(task=task, bucket="rare", variant="vector") == pytest.approx(1 - rare, abs=1e-12)
    assert accuracy.select(task="procedure", bucket="rare", variant="vector").n == 4


def test_words_are_parted_by_the_table_and_no_rule_means_no_invented_words(found: Findings):
    frequency = found.measurements["frequency"]
    assert frequency.at(task="procedure", bucket="frequent") == np.mean([100, 90, 80, 70])
    assert frequency.at(task="procedure", bucket="rare") == np.mean([60, 50, 40, 30])
    assert np.isnan(found.measurements["accuracy"].select(bucket="invented").value).all()
    assert "no rule" in found.measurements["accuracy"].missing
    words = found.examples["words"].columns
    assert words["input"].tolist() == [*LETTERS] * 2
    assert words["kind"].tolist() == (["frequent"] * 4 + ["rare"] * 4) * 2


def test_a_task_without_a_vector_is_not_asked_and_says_so(found: Findings):
    assert np.isnan(found.measurements["accuracy"].select(task="unsolved").value).all()
    assert "unsolved" in found.notes[0]


def test_a_whole_answer_is_what_the_model_writes_with_the_vector_at_the_end_of_the_prompt():
    model = tiny("llama", torch.float64)
    ids, vector = (
        [5, 9, 3, 7],
        30 * torch.randn(model.anatomy.d_model, generator=torch.Generator().manual_seed(1)),
    )
    at = torch.arange(4) == 3
    push = Edit(model.anatomy.states()[1], lambda x, _: x + vector.to(x), "push", at)
    wrote = generate(model, ids, max_new_tokens=3, edit=[push], stop=()).ids
    plain = generate(model, ids, max_new_tokens=3, stop=()).ids
    assert wrote != plain
    assert whole_answers(model, ids, wrote, 1, [vector, None]) == [True, False]
    assert whole_answers(model, ids, plain, 1, [vector, None]) == [False, True]
    assert whole_answers(model, ids, (*plain[:2], (plain[2] + 1) % 90), 1, [None]) == [False]


def test_rules_are_found_in_pairs_and_knowledge_has_none():
    named = {rule.name: rule for rule in RULES}
    assert rule_of([("walk", "walking"), ("go", "going"), ("run", "running")]) == (
        named["the ending -ing"], pytest.approx(2 / 3))  # fmt: skip
    assert rule_of([("house", "House")])[0] is named["a capital letter"]
    assert rule_of([("a, b, c", "c")])[0] is named["the last of a list"]
    assert rule_of([("hot", "cold"), ("big", "small")]) == (None, 0)


def test_invented_words_are_equal_for_a_seed_and_are_no_known_words():
    first = invented(6, 0)
    assert first == invented(6, 0)
    assert len(set(first)) == 6
    assert not set(first[:2]) & set(invented(6, 0, first[:2]))
    said = invented_pairs(next(rule for rule in RULES if rule.name == "the last of a list"), 2, 0)
    assert [text.split(", ")[-1] for text, _ in said] == [answer for _, answer in said]


def test_wrong_parameters_tables_and_models_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match=r"fewest=4 \(no more than words\) must be from 1 to 2"):
        FunctionReach(words=2)
    with pytest.raises(Refused, match="no answer follows a prompt"):
        FunctionReach().needs(tiny("bert").anatomy)
    (tmp_path / "none.tsv").write_text("word count\n")
    with pytest.raises(BadInput, match="no line of a word, a tab and a count"):
        word_counts(str(tmp_path / "none.tsv"))
