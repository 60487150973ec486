"""Verdict on removing layers: whether the deepest ones may simply go, as a rule found on large models says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

TENTH = 0.1
"""The rule is judged where this share of the layers is gone, or the size nearest to it."""


def deepest_may_go(results: Mapping[str, Result]) -> Verdict:
    """Whether the deepest layers but the last may simply go: their loss against that of the least influential ones."""
    topic = "Whether the deepest layers may simply go"
    found = results["pruning_damage"]["loss_increase"]
    kept = np.asarray(found.axes["kept"])
    depth = (
        len(results["pruning_criteria"]["rank"].axes["layer"])
        if "pruning_criteria" in results
        else int(kept.max()) + 1
    )
    left = int(kept[np.abs(depth - kept - max(1, round(TENTH * depth))).argmin()])
    rule, other = (
        Cell.of(found, mode="protected", criterion=name, kept=left) for name in ("deepest", "influence")
    )
    if np.isnan([rule.value, other.value]).any():
        return Verdict(topic, f"Not decided: {found.missing or 'a removal has no finite loss'}.", False, "")
    gone = depth - left
    because = (
        f"pruning_damage/loss_increase with {gone} of {depth} layers removed, protected ones kept, is {rule.said()} "
        f"nats for the deepest and {other.said()} nats for those of least influence."
    )
    if rule.overlaps(other):
        return Verdict(topic, "Not decided: both removals cost about the same.", False, because)
    word = "no" if rule.value > other.value else "yes"
    better = "least influential" if word == "no" else "deepest"
    sentence = (
        f"By loss, {word}: with {gone} of {depth} layers gone, the {better} are the cheaper choice "
        f"({min(rule.value, other.value):+.2f} against {max(rule.value, other.value):+.2f} nats). "
        "Not verified by generation."
    )
    return Verdict(topic, sentence, True, because)
