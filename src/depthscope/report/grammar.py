"""Verdicts on grammar: in single heads, in trees of heads, and in what the model finds more probable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

FEW = 5
"""Sentences or pairs below which nothing is said."""
CHANCE = 0.5
ATTRACTORS = ("attractor", "no attractor")
"""Paradigms of the synthetic grammar: with a noun of the other number between subject and verb, and without."""


def heads_know_grammar(results: Mapping[str, Result]) -> Verdict:
    """Whether heads know grammar: the best head of each relation, on held-out sentences, against the best offset."""
    topic = "Whether heads know more of grammar than distance"
    found = results["grammar_heads"]
    own, rival, gain = (Cell.of(found[name]) for name in ("uas", "uas_offset", "uas_gain"))
    because = (
        f"grammar_heads/uas is {own.said()}, uas_offset {rival.said()}, uas_gain {gain.said()}; heads were chosen on "
        "the other half of the sentences. The threshold is 0."
    )
    if not np.isfinite(gain.value) or (gain.n or 0) < FEW:
        return Verdict(topic, "Not decided: too few sentences or questions.", False, because)
    if gain.low > 0:
        sentence = (
            f"Knowing the relation, the best heads find {own.value:.0%} of the partners, {100 * gain.value:.0f} points "
            f"more than the best offsets{_relations(found)}."
        )
        return Verdict(topic, sentence, True, because)
    if gain.high < 0:
        return Verdict(
            topic, f"No: the best heads find {own.value:.0%} of the partners, fixed offsets {rival.value:.0%}.",
            True, because,
        )  # fmt: skip
    return Verdict(topic, "Not decided: the best heads may be no better than offsets.", False, because)


def heads_hold_trees(results: Mapping[str, Result]) -> Verdict:
    """Whether a head holds the whole parse: the spanning tree of the best head against that of the best rule."""
    topic = "Whether one head holds the whole parse"
    found = results["grammar_heads"]
    own, gain = (Cell.of(found[name]) for name in ("tree_best_uas", "tree_gain"))
    because = (
        f"grammar_heads/tree_best_uas is {own.said()}, tree_gain {gain.said()} ({found['tree_gain'].note}). The "
        "threshold is 0."
    )
    if not np.isfinite(gain.value) or (gain.n or 0) < FEW:
        return Verdict(topic, "Not decided: too few sentences.", False, because)
    if gain.low > 0:
        sentence = (
            f"The tree of the best head puts {own.value:.0%} of the words on the right head, {100 * gain.value:.0f} "
            "points more than the best rule without a model."
        )
        return Verdict(topic, sentence, True, because)
    if gain.high < 0:
        sentence = (
            f"No: the tree of the best head puts {own.value:.0%} of the words on the right head, "
            f"{-100 * gain.value:.0f} points fewer than the best rule without a model."
        )
        return Verdict(topic, sentence, True, because)
    return Verdict(topic, "Not decided: a rule without a model may do as well.", False, because)


def _relations(found: Result) -> str:
    """How many relations have a head that beats its offset, one by one."""
    if "relation_gain" not in found.findings.measurements:
        return ""
    gain = found["relation_gain"]
    known = np.isfinite(gain.value)
    if gain.low is None or not known.any():
        return ""
    return f"; one by one {int((gain.low[known] > 0).sum())} of {int(known.sum())} relations and directions"


def pairs_told(results: Mapping[str, Result]) -> Verdict:
    """Whether the grammatical sentence is the more probable: the share of minimal pairs against chance."""
    topic = "Whether the model tells grammatical sentences from others"
    found = results["minimal_pairs"]
    share = Cell.of(found["accuracy"])
    because = f"minimal_pairs/accuracy is {share.said()}; chance is {CHANCE:g}."
    if not np.isfinite(share.value) or (share.n or 0) < FEW:
        return Verdict(topic, "Not decided: too few pairs.", False, because)
    if share.low <= CHANCE <= share.high:
        return Verdict(topic, "Not decided: the share of pairs told apart may be chance.", False, because)
    start = "The model" if share.low > CHANCE else "No: the model"
    sentence = f"{start} finds the grammatical sentence more probable in {share.value:.0%} of the pairs"
    return Verdict(topic, f"{sentence}{_attractors(found)}.", True, because)


def _attractors(found: Result) -> str:
    """What nouns of the other number cost, where the pairs are those of the synthetic grammar."""
    told = found["paradigm_accuracy"]
    if not set(ATTRACTORS) <= {str(name) for name in told.axes["task"]}:
        return ""
    hard, plain = (Cell.of(told, task=name) for name in ATTRACTORS)
    if hard.overlaps(plain):
        return ""
    return f"; across a noun of the other number in {hard.value:.0%}, else in {plain.value:.0%}"
