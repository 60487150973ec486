"""Verdicts on studies that train something to see what heads do: gates, registers, pairs, transfer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

OPEN = 0.25
"""Share of gates that may at most be left between closed and open where it is said that heads part."""
FEWEST = 8
"""Gates below which nothing is said."""
RESTS = 0.3
"""Mean attention above which a head rests on a key."""


def gates_part(results: Mapping[str, Result]) -> Verdict:
    """Which heads must keep all their keys: the share of gates above one half, where few gates are left in between."""
    topic = "Which heads must keep all their keys"
    found = results["duo_gates"]
    if "share_full" not in found.findings.measurements:
        return Verdict(topic, "Not decided: no gate was trained, only single groups were closed.", False, "")
    full, between, same = (Cell.of(found[name]) for name in ("share_full", "share_between", "agreement"))
    because = (
        f"duo_gates/share_full is {full.said()}, share_between {between.said()} (at most {OPEN:g}); agreement "
        f"with the sensitivity is {same.value:.2g}."
    )
    if (full.n or 0) < FEWEST:
        return Verdict(
            topic, f"Not decided: fewer than {FEWEST} key-value heads have a gate.", False, because
        )
    if between.high > OPEN:
        sentence = f"Not decided: {between.value:.0%} of the gates are neither open nor closed; train longer."
        return Verdict(topic, sentence, False, because)
    if full.value == 1:
        sentence = "Not decided: no gate has closed; train longer, or with a larger --weight."
        return Verdict(topic, sentence, False, because)
    count = round(full.value * (full.n or 0))
    sentence = (
        f"{count} of {full.n} key-value heads keep all their keys; the others may keep the first and the most recent "
        "ones."
    )
    return Verdict(topic, sentence, True, because)


def registers_take_over(results: Mapping[str, Result]) -> Verdict:
    """Whether registers take over from background cells: what both get of the attention, without and with them."""
    topic = "Whether registers take over from background cells"
    found = results["registers"]
    got, tells = found["received"], found["class_probe"]
    names = [str(name) for name in np.asarray(got.axes["variant"])]
    if len(names) < 2 or names[0] != "0 registers":
        return Verdict(
            topic, "Not decided: no encoder without registers stands beside one with some.", False, ""
        )
    first, last = names[0], names[-1]
    layer = _fullest(got, first)
    bare, with_them = (Cell.of(got, variant=v, layer=layer, token="background") for v in (first, last))
    taken = Cell.of(got, variant=last, layer=layer, token="register")
    because = (
        f"registers/received at layer {layer}, where background cells get most without registers: {bare.said()}; with "
        f"{last} {with_them.said()}, the registers {taken.said()}. 1 is an even share."
    )
    probed = [Cell.of(tells, variant=first, layer=layer, token=kind) for kind in ("background", "foreground")]
    gather = probed[0].low > probed[1].high
    if not bare.low > 1 or not gather:
        what = (
            "get no more than an even share"
            if not bare.low > 1
            else "tell the class no better than other cells"
        )
        sentence = f"Nothing to take over: without registers background cells {what}."
        return Verdict(topic, sentence, bare.high < 1 or probed[0].high < probed[1].low, because)
    if with_them.high < bare.low and taken.low > with_them.high:
        sentence = (
            f"They do: background cells get {bare.value:.1f} times an even share without registers and "
            f"{with_them.value:.1f} times with {last}, which get {taken.value:.1f} times."
        )
        return Verdict(topic, sentence, True, because)
    if with_them.low >= bare.value:
        return Verdict(topic, f"They do not: background cells get as much beside {last}.", True, because)
    return Verdict(
        topic, "Not decided: what background cells get hardly changes with registers.", False, because
    )


def patches_gather(results: Mapping[str, Result]) -> Verdict:
    """Whether patches without content are used as registers: the attention they get and the class they tell."""
    topic = "Whether patches without content are used as registers"
    found = results["image_registers"]
    got, tells = found["received"], found["class_probe"]
    name = str(np.asarray(got.axes["variant"])[0])
    layer = _fullest(got, name)
    mine = Cell.of(got, variant=name, layer=layer, token="background")
    because = f"image_registers/received by background patches at layer {layer} is {mine.said()}; 1 is an even share."
    if mine.high < 1:
        return Verdict(
            topic, "They are not: at no layer do they get an even share of attention.", True, because
        )
    own, others = (Cell.of(tells, variant=name, layer=layer, token=k) for k in ("background", "foreground"))
    if not np.isfinite([own.value, others.value]).all() or not mine.low > 1:
        return Verdict(
            topic,
            "Not decided: their attention is near an even share, or no class could be read.",
            False,
            because,
        )
    because += f" class_probe there is {own.said()}, of other patches {others.said()}."
    if own.low > others.high:
        sentence = (
            f"They are: at layer {layer} they get {mine.value:.1f} times an even share and tell the class in "
            f"{own.value:.0%} of the cases, other patches in {others.value:.0%}."
        )
        return Verdict(topic, sentence, True, because)
    if own.high < others.low:
        sentence = (
            f"They do not gather it: they get {mine.value:.1f} times an even share, but "
            "tell the class worse than others."
        )
        return Verdict(topic, sentence, True, because)
    return Verdict(topic, "Not decided: both kinds of patches tell the class about as well.", False, because)


def _fullest(got: Measurement, variant: str) -> int:
    """The layer where background cells get most."""
    value = got.select(variant=variant, token="background").value
    return int(np.asarray(got.axes["layer"])[int(np.nanargmax(value))])


def pairs_take_over(results: Mapping[str, Result]) -> Verdict:
    """Whether a key of its own frees a head from the first token: what both get when there is nothing to copy."""
    topic = "Whether a key of their own frees heads from the first token"
    found = results["explicit_bias"]
    idle, pair = found["first_idle"], found["pair_share"]
    (bare, where), (left, there) = (_most(idle, name) for name in ("plain", "explicit pair"))
    own, home = _most(pair, "explicit pair")
    because = (
        f"explicit_bias/first_idle is largest in {where} of the plain model, {bare.said()}, and in {there} of the one "
        f"with pairs, {left.said()}; pair_share is largest in {home}, {own.said()}. The threshold is {RESTS:g}."
    )
    if not bare.low > RESTS:
        sentence = "Nothing to free: in the plain model no head rests on the first token."
        return Verdict(topic, sentence, bare.high < RESTS, because)
    if left.high < RESTS < own.low:
        sentence = (
            f"It does: with nothing to copy a head of the plain model gives the first token {bare.value:.0%} of its "
            f"attention; with pairs at most {left.value:.0%}, and a head's own key gets up to {own.value:.0%}."
        )
        return Verdict(topic, sentence, True, because)
    if left.low > RESTS:
        sentence = f"It does not: with a key of its own a head still gives the first token {left.value:.0%}."
        return Verdict(topic, sentence, True, because)
    return Verdict(
        topic, "Not decided: attention leaves the first token but finds no other place.", False, because
    )


def _most(found: Measurement, variant: str) -> tuple[Cell, str]:
    """The head with the largest value, and its name."""
    one = found.select(variant=variant)
    layer, head = (int(k) for k in np.unravel_index(int(np.nanargmax(one.value)), one.value.shape))
    return Cell.of(one, layer=one.axes["layer"][layer], head=one.axes["head"][head]), f"L{layer}H{head}"


def task_carries_over(results: Mapping[str, Result]) -> Verdict:
    """Whether one task of steps helps to learn another: sequences right at the last step, after it and from scratch."""
    topic = "Whether one task of steps helps to learn another"
    right = results["iteration_transfer"]["right"]
    (after, scratch), last = (str(name) for name in right.axes["variant"]), right.axes["step"][-1]
    level = int(right.axes["level"][-1])
    mine, theirs = (Cell.of(right, variant=name, step=last, level=level) for name in (after, scratch))
    because = (
        f"iteration_transfer/right of {level} inputs at step {last}: {after} {mine.said()}, "
        f"{scratch} {theirs.said()}."
    )
    shares = f"{mine.value:.0%} of the longest sequences are right {after}, {theirs.value:.0%} from {scratch}"
    if mine.low > theirs.high:
        return Verdict(topic, f"It does: at step {last} {shares}.", True, because)
    if mine.high < theirs.low:
        return Verdict(topic, f"It hinders: at step {last} {shares}.", True, because)
    return Verdict(topic, "Not decided: at the last step both are right about as often.", False, because)
