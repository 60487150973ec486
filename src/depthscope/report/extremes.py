"""Verdicts on extreme inputs: what repetition, random tokens and length do to the spread of token vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

TEXTS = 8
"""Fewer independent texts than this decide nothing."""


def repetition_compresses(results: Mapping[str, Result]) -> Verdict:
    """What repetition does: its slope in the middle third of the depth, with and without position 0, against 0."""
    topic = "What repeated tokens do to the middle of the depth"
    found = results["extreme_inputs"]["slope_by_depth"]
    at = {"variant": "repetition", "depth": "middle"}
    exact, kept = (Cell.of(found, **at, mode=mode) for mode in ("exact", "first_kept"))
    because = (
        f"extreme_inputs/slope_by_depth of repetition in the middle third is {exact.said()}, without position 0 "
        f"{kept.said()}; the threshold is 0."
    )
    few = _few(exact)
    if few:
        return Verdict(topic, few, False, because)
    signs = {_sign(exact), _sign(kept)}
    if len(signs) > 1 or signs == {0}:
        return Verdict(
            topic, "Not decided: an interval holds 0, or position 0 changes the answer.", False, because
        )
    word = "lower" if signs == {-1} else "raise"
    amount = f"by {abs(exact.value):.2g} per unit of p"
    sentence = f"Repeated tokens {word} the prompt entropy in the middle third of the depth, {amount}."
    return Verdict(topic, sentence, True, because)


def randomness_spreads(results: Mapping[str, Result]) -> Verdict:
    """What random tokens do: the slope in the first third against 0, and against that of the last third."""
    topic = "What random tokens do to early layers"
    found = results["extreme_inputs"]
    early = Cell.of(found["slope_by_depth"], variant="randomness", depth="early", mode="exact")
    apart = Cell.of(found["early_minus_late"], variant="randomness", mode="exact")
    because = (
        f"extreme_inputs/slope_by_depth of randomness in the first third is {early.said()}, minus that of the last "
        f"third {apart.said()}; the threshold is 0."
    )
    few = _few(early)
    if few or _sign(early) == 0:
        return Verdict(topic, few or "Not decided: the interval holds 0.", False, because)
    word = "raise" if _sign(early) > 0 else "lower"
    where = {1: "above the slope", -1: "below the slope", 0: "not told apart from the slope"}[
        _sign(apart)
    ] + " of the last third"
    amount = f"by {abs(early.value):.2g} per unit of p, {where}"
    sentence = f"Random tokens {word} the prompt entropy in the first third of the depth, {amount}."
    return Verdict(topic, sentence, True, because)


def length_spreads(results: Mapping[str, Result]) -> Verdict:
    """What length does: the slope of the raw entropy of random texts over ln of the length, against 0 and 1."""
    topic = "What length does to the prompt entropy"
    found = results["extreme_inputs"]["raw_slope_by_depth"]
    cell = Cell.of(found, variant="length", depth="all", mode="exact")
    because = (
        f"extreme_inputs/raw_slope_by_depth of length over all layers is {cell.said()} nats per unit of ln(tokens); "
        "the thresholds are 0 and 1."
    )
    few = _few(cell)
    if few or cell.low <= 0 <= cell.high or cell.low <= 1 <= cell.high:
        return Verdict(topic, few or "Not decided: the interval holds a threshold.", False, because)
    if cell.value < 0:
        return Verdict(topic, "Longer random texts have less prompt entropy.", True, because)
    pace = "slower" if cell.high < 1 else "faster"
    sentence = f"The prompt entropy of random texts grows with their length, {pace} than the logarithm of the length."
    return Verdict(topic, sentence, True, because)


def _few(cell: Cell) -> str:
    """Why nothing is decided: no value, no interval, or too few texts."""
    if not np.isfinite(cell.value):
        return "Not decided: this third of the depth has no layer, or no text was edited so."
    if cell.n is None or cell.n < TEXTS:
        return f"Not decided: at least {TEXTS} independent texts are needed, found {cell.n}."
    return ""


def _sign(cell: Cell) -> int:
    return 1 if cell.low > 0 else -1 if cell.high < 0 else 0
