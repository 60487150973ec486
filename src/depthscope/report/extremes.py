"""Verdicts on extreme inputs: what repetition, random tokens and length do to the spread of token vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

TEXTS = 8
"""Fewer independent texts than this decide nothing."""
CHANGED = "Not decided: an interval holds 0, or position 0 changes the answer."


def repetition_compresses(results: Mapping[str, Result]) -> Verdict:
    """What repetition does: its slope in the middle third of the depth, with and without position 0, against 0."""
    topic = "What repeated tokens do to the middle of the depth"
    found = results["extreme_inputs"]["slope_by_depth"]
    exact, kept = _both(found, variant="repetition", depth="middle")
    because = (
        f"extreme_inputs/slope_by_depth of repetition in the middle third is {exact.said()}, without position 0 "
        f"{kept.said()}; the threshold is 0."
    )
    few = _few(exact)
    if few:
        return Verdict(topic, few, False, because)
    signs = {_sign(exact), _sign(kept)}
    if len(signs) > 1 or signs == {0}:
        return Verdict(topic, CHANGED, False, because)
    word = "lower" if signs == {-1} else "raise"
    amount = f"by {abs(exact.value):.2g} per unit of p"
    sentence = f"Repeated tokens {word} the prompt entropy in the middle third of the depth, {amount}."
    return Verdict(topic, sentence, True, because)


def randomness_spreads(results: Mapping[str, Result]) -> Verdict:
    """What random tokens do: the slope in the first third against 0, and against that of the last third."""
    topic = "What random tokens do to early layers"
    found = results["extreme_inputs"]
    early, kept = _both(found["slope_by_depth"], variant="randomness", depth="early")
    apart, apart_kept = _both(found["early_minus_late"], variant="randomness")
    because = (
        f"extreme_inputs/slope_by_depth of randomness in the first third is {early.said()}, without position 0 "
        f"{kept.said()}; minus that of the last third {apart.said()}; the threshold is 0."
    )
    few = _few(early)
    if few or _sign(early) == 0 or _sign(early) != _sign(kept):
        return Verdict(topic, few or CHANGED, False, because)
    word = "raise" if _sign(early) > 0 else "lower"
    side = _sign(apart) if _sign(apart) == _sign(apart_kept) else 0
    where = {1: "above the slope", -1: "below the slope", 0: "not told apart from the slope"}[side]
    amount = f"by {abs(early.value):.2g} per unit of p, {where} of the last third"
    sentence = f"Random tokens {word} the prompt entropy in the first third of the depth, {amount}."
    return Verdict(topic, sentence, True, because)


def length_spreads(results: Mapping[str, Result]) -> Verdict:
    """What length does: the slope of the raw entropy of random texts over ln of the length, against 0 and 1."""
    topic = "What length does to the prompt entropy"
    exact, kept = _both(results["extreme_inputs"]["raw_slope_by_depth"], variant="length", depth="all")
    because = (
        f"extreme_inputs/raw_slope_by_depth of length over all layers is {exact.said()} nats per unit of ln(tokens), "
        f"without position 0 {kept.said()}; the thresholds are 0 and 1."
    )
    few = _few(exact)
    if few:
        return Verdict(topic, few, False, because)
    paces = {_pace(exact), _pace(kept)}
    if "" in paces:
        return Verdict(topic, "Not decided: an interval holds a threshold.", False, because)
    if len(paces) > 1:
        turned = f"it grows {_pace(exact)} than the logarithm with position 0, {_pace(kept)} without"
        return Verdict(topic, f"Not decided: {turned}.", False, because)
    if paces == {"down"}:
        return Verdict(topic, "Longer random texts have less prompt entropy.", True, because)
    sentence = (
        f"The prompt entropy of random texts grows with their length, {paces.pop()} than its logarithm."
    )
    return Verdict(topic, sentence, True, because)


def _both(found: Measurement, **labels: object) -> tuple[Cell, Cell]:
    """With every position, and with position 0 kept and left out."""
    return Cell.of(found, **labels, mode="exact"), Cell.of(found, **labels, mode="first_kept")


def _pace(cell: Cell) -> str:
    """How a slope over ln(tokens) stands to 0 and 1; empty where its interval holds one of them."""
    if cell.low <= 0 <= cell.high or cell.low <= 1 <= cell.high:
        return ""
    return "down" if cell.value < 0 else "slower" if cell.value < 1 else "faster"


def _few(cell: Cell) -> str:
    """Why nothing is decided: no value, no interval, or too few texts."""
    if not np.isfinite(cell.value):
        return "Not decided: this third of the depth has no layer, or no text was edited so."
    if cell.n is None or cell.n < TEXTS:
        return f"Not decided: at least {TEXTS} independent texts are needed, found {cell.n}."
    return ""


def _sign(cell: Cell) -> int:
    return 1 if cell.low > 0 else -1 if cell.high < 0 else 0
