"""Verdict on adaptive compute: whether tokens differ in the depth at which their prediction is nearly final."""

from __future__ import annotations

from collections.abc import Mapping

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

SHARE = 0.05
"""A share of positions that counts as some tokens, not nearly none."""


def tokens_differ(results: Mapping[str, Result]) -> Verdict:
    """Whether some tokens settle in the first half and others only at the end, by the intervals of both shares."""
    topic = "Whether tokens differ in the depth they need"
    found = results["adaptive_compute"]
    early, deep = (Cell.of(found[name], definition="bits") for name in ("early_share", "deep_share"))
    because = (
        f"adaptive_compute/early_share is {early.said()} and deep_share {deep.said()}, by a divergence below half a "
        f"bit through this lens; both count from {SHARE:.0%} on."
    )
    if early.low >= SHARE and deep.low >= SHARE:
        sentence = (
            f"Yes, as this lens sees it: {early.value:.0%} of the predictions are nearly final in the first half of "
            f"the depth, {deep.value:.0%} only in its last part."
        )
        return Verdict(topic, sentence, True, because)
    if early.high < SHARE:
        sentence = (
            f"Hardly any prediction is nearly final in the first half of the depth ({early.value:.1%}), as this lens "
            "sees it."
        )
        return Verdict(topic, sentence, True, because)
    if deep.high < SHARE:
        sentence = f"Hardly any prediction needs the last part of the depth ({deep.value:.1%}), as this lens sees it."
        return Verdict(topic, sentence, True, because)
    return Verdict(
        topic, "Not decided: the shares of early or late positions are too uncertain.", False, because
    )
