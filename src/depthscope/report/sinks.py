"""Verdicts on sinks: do heads rest on the first token, are massive entries constants, are first keys needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

HALF = 0.5
"""A share of heads above which most of them rest on a key."""
SMALL = 0.1
"""What an edit may cost, in shares of what zeroing costs, to count as nothing."""


def heads_rest(results: Mapping[str, Result]) -> Verdict:
    """Whether heads rest on the first token: the share of heads above the first level, with and without a start."""
    topic = "Whether heads rest on the first token"
    found = results["attention_sinks"]["sink_share"]
    level = np.asarray(found.axes["level"])[0]
    said, because, decided = [], [], []
    for mode, words in (("start", "with a start token"), ("none", "without one")):
        cell = Cell.of(found, source="natural", mode=mode, level=level, position=0)
        if not np.isfinite(cell.value):
            continue
        because.append(f"{words} {cell.said()}")
        most = "most do" if cell.low > HALF else "few do" if cell.high < HALF else "not decided"
        decided.append(most != "not decided")
        said.append(f"{words} {most} ({cell.value:.0%} of the heads)")
    reason = f"attention_sinks/sink_share at position 0, mean attention above {float(level):g}: {'; '.join(because)}."
    if not any(decided):
        return Verdict(
            topic, "Not decided: the share of heads may be above or below one half.", False, reason
        )
    return Verdict(topic, f"In natural text, {'; '.join(said)}.", True, reason)


def massive_are_constants(results: Mapping[str, Result]) -> Verdict:
    """Whether massive entries are needed, and only as constants: loss with them zeroed, and at their mean."""
    topic = "Whether massive entries serve as constants"
    found = results["massive_activations"]["loss_increase"]
    zero, mean = (Cell.of(found, variant=name) for name in ("zero", "mean"))
    if not np.isfinite(zero.value):
        return Verdict(topic, "Not decided: no edited text has a massive entry.", False, "")
    because = (
        f"massive_activations/loss_increase is {zero.said()} nats for zero and {mean.said()} for the mean."
    )
    if not zero.low > 0:
        return Verdict(
            topic, "Not decided: setting massive entries to zero may cost nothing.", False, because
        )
    if mean.high < SMALL * zero.low:
        cost = f"zeroed they cost {zero.value:.2f} nats"
        sentence = f"The model needs its massive entries, but only as constants: {cost}."
        return Verdict(topic, sentence, True, because)
    if mean.low > SMALL * zero.high:
        sentence = (
            f"Massive entries are more than constants: at their mean they still cost {mean.value:.2f} nats."
        )
        return Verdict(topic, sentence, True, because)
    return Verdict(topic, "Not decided: what their mean costs is too uncertain.", False, because)


def first_keys_needed(results: Mapping[str, Result]) -> Verdict:
    """Whether a cache needs the first keys: the loss above full without them and with the most that were kept."""
    topic = "Whether a cache needs the first keys"
    found = results["streaming_cache"]["excess"]
    kept, sinks = np.asarray(found.axes["kept"])[0], np.asarray(found.axes["sinks"])
    with_most = int(sinks.max())
    if "mask" not in np.asarray(found.axes["variant"]).tolist() or 0 not in sinks.tolist() or with_most == 0:
        return Verdict(
            topic, "Not decided: no cache without first keys stands beside one with some.", False, ""
        )
    none, some = (Cell.of(found, variant="mask", kept=kept, sinks=n) for n in (0, with_most))
    because = (
        f"streaming_cache/excess of {int(kept)} keys is {none.said()} nats without first keys, {some.said()} with "
        f"{with_most}."
    )
    if none.overlaps(some):
        return Verdict(
            topic, "Not decided: the intervals with and without first keys overlap.", False, because
        )
    if none.low > some.high:
        sentence = (
            f"It does: of {int(kept)} recent keys the text costs {none.value:.2f} nats more than in full, with "
            f"{with_most} first keys among them {some.value:.2f}."
        )
        return Verdict(topic, sentence, True, because)
    return Verdict(topic, "It does not: first keys in a cache of recent ones make it worse.", True, because)
