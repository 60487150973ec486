"""Verdicts on memories of facts: whether known facts hit one, and whether what is made up comes after a miss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result


def facts_hit(results: Mapping[str, Result]) -> Verdict:
    """Whether known facts hit a memory of their answer: at the end, against the same prompts of invented names."""
    topic = "Whether known facts hit a memory of their answer"
    found = results["fact_memory"]
    share, drop = found["hit_share"], found["drop_beyond_random"]
    known, none = (
        Cell.of(share, token="end", option="answer", bucket=kind) for kind in ("right", "invented")
    )
    if not np.isfinite([known.value, none.value]).all():
        return Verdict(topic, f"Not decided: {share.missing}.", False, "")
    lost = Cell.of(drop, token="end")
    because = (
        f"fact_memory/hit_share (end, answer) of right facts is {known.said()}, of invented subjects {none.said()}; "
        f"drop_beyond_random there is {lost.said()}."
    )
    used = (
        f"and without the ten largest the answer loses {100 * lost.value:.0f} points more than without others"
    )
    if not lost.low > 0:
        used = "but the answer does not lose more without the ten largest than without others"
    if known.low > none.high:
        sentence = (
            f"They do: {known.value:.0%} of the facts it knows hit one at the prompt's end, {none.value:.0%} of the "
            f"same prompts about invented names, {used}."
        )
        return Verdict(topic, sentence, True, because)
    if known.high < none.low or known.high < 0.05:
        return Verdict(
            topic, "They do not: known facts hit no more often than invented names.", True, because
        )
    return Verdict(
        topic, "Not decided: the intervals of known facts and of invented names overlap.", False, because
    )


def makes_up_after_a_miss(results: Mapping[str, Result]) -> Verdict:
    """Whether made-up answers come after a miss: fewer hits for invented names at equal confidence in what is said."""
    topic = "Whether made-up answers come after a miss"
    found = results["fact_memory"]["fact_minus_invented_at_confidence"]
    cell = Cell.of(found, token="end")
    if not np.isfinite(cell.value):
        return Verdict(topic, f"Not decided: {found.missing}.", False, "")
    because = f"fact_memory/{found.name} (end) is {cell.said()}; the threshold is 0."
    if cell.low > 0:
        sentence = (
            f"Yes: about invented names the model is as sure with {100 * cell.value:.0f} points fewer hits of what it "
            "says."
        )
        return Verdict(topic, sentence, True, because)
    if cell.high < 0:
        return Verdict(topic, "No: invented names hit more often, at equal confidence.", True, because)
    return Verdict(topic, "Not decided: at equal confidence both hit about as often.", False, because)
