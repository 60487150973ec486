"""Sentences on grammar: decided, decided the other way, and not decided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from grammar_results import grammar_heads, made, result

from depthscope.report.grammar import heads_hold_trees, heads_know_grammar, pairs_told


@pytest.mark.parametrize(
    ("gain", "n", "decided", "words"),
    [
        (
            0.2,
            40,
            True,
            "find 70% of the partners, 20 points more than the best offsets; one by one 2 of 3 relations",
        ),
        (-0.2, 40, True, "No: the best heads find 70% of the partners, fixed offsets 50%."),
        (0.01, 40, False, "Not decided: the best heads may be no better than offsets."),
        (0.2, 4, False, "Not decided: too few sentences or questions."),
    ],
)
def test_heads_against_offsets(gain: float, n: int, decided: bool, words: str):
    base = grammar_heads()
    axes = {"relation": ["det", "nsubj"], "mode": ["to_head", "to_dependent"]}
    found = [
        *base.findings.measurements.values(),
        replace(made("uas_gain", {}, gain), n=np.asarray(n)),
        made("relation_gain", axes, [[np.nan, 0.2], [0.04, 0.3]]),
    ]
    said = heads_know_grammar({"grammar_heads": result("grammar_heads", found)})
    assert (said.decided, words in said.sentence) == (decided, True), said.sentence


@pytest.mark.parametrize(
    ("gain", "n", "decided", "words"),
    [
        (0.2, 40, True, "puts 40% of the words on the right head, 20 points more than"),
        (
            -0.2,
            40,
            True,
            "No: the tree of the best head puts 40% of the words on the right head, 20 points fewer",
        ),
        (0.01, 40, False, "Not decided: a rule without a model may do as well."),
        (0.2, 4, False, "Not decided: too few sentences."),
    ],
)
def test_trees_of_heads_against_rules(gain: float, n: int, decided: bool, words: str):
    found = [made("tree_best_uas", {}, 0.4), replace(made("tree_gain", {}, gain), n=np.asarray(n))]
    said = heads_hold_trees({"grammar_heads": result("grammar_heads", found)})
    assert (said.decided, words in said.sentence) == (decided, True), said.sentence


@pytest.mark.parametrize(
    ("share", "n", "hard", "decided", "words"),
    [
        (0.8, 40, 0.4, True, "in 80% of the pairs; across a noun of the other number in 40%, else in 90%."),
        (0.8, 40, 0.88, True, "The model finds the grammatical sentence more probable in 80% of the pairs."),
        (
            0.3,
            40,
            0.88,
            True,
            "No: the model finds the grammatical sentence more probable in 30% of the pairs.",
        ),
        (0.52, 40, 0.4, False, "Not decided: the share of pairs told apart may be chance."),
        (0.8, 4, 0.4, False, "Not decided: too few pairs."),
    ],
)
def test_pairs_against_chance(share: float, n: int, hard: float, decided: bool, words: str):
    tasks = {"task": ["attractor", "no attractor"]}
    found = [
        replace(made("accuracy", {}, share), n=np.asarray(n)), made("paradigm_accuracy", tasks, [hard, 0.9])
    ]  # fmt: skip
    said = pairs_told({"minimal_pairs": result("minimal_pairs", found)})
    assert (said.decided, said.sentence.endswith(words)) == (decided, True), said.sentence
