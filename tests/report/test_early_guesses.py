"""The verdicts on early guesses decide where the interval allows it, and say "not decided" where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.report import early_guesses as rules
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text

TEXT = Text("Title", "Why?", "So.", "Look.", "Careful.", "Me 2020.")
Interval = tuple[float, float, float]


def of(analysis: str, *found: Measurement) -> dict[str, Result]:
    findings = Findings({m.name: m for m in found})
    return {analysis: Result(analysis, {}, findings, TEXT, {"lens": "ridge"})}


def filled(name: str, axes: dict[str, list[object]], interval: Interval) -> Measurement:
    """Every cell holds the same value and interval."""
    shape = tuple(len(labels) for labels in axes.values())
    value, low, high = (np.full(shape, part) for part in interval)
    labels = {axis: np.asarray(names) for axis, names in axes.items()}
    missing = "too few documents" if np.isnan(value).any() else ""
    return Measurement(
        name, labels, value, "1", low, high, np.full(shape, 12), np.full(shape, 400), missing=missing
    )


@pytest.mark.parametrize(
    ("interval", "decided", "words"),
    [
        ((0.4, 0.3, 0.5), True, "frequent tokens come first; read through the lens ridge"),
        ((-0.2, -0.3, -0.1), True, "frequent tokens do not come first"),
        ((0.1, -0.1, 0.3), False, "Not decided"),
    ],
)
def test_frequent_tokens_come_first_or_not_or_it_is_not_decided(
    interval: Interval, decided: bool, words: str
):
    axes: dict[str, list[object]] = {"state": list(range(17)), "bucket": ["1-10", "rest"]}
    above = filled("share_above_final", axes, (9.0, 9.0, 9.0))
    for part, value in zip((above.value, above.low, above.high), interval, strict=True):
        assert part is not None
        part[2, 0] = value  # state 2 is an eighth of 16; nothing else may be read
    said = rules.frequent_first(of("frequency_onset", above, filled("share", axes, (0.7, 0.6, 0.8))))
    assert said.decided == decided
    assert words in said.sentence
    assert "state 2" in said.because


@pytest.mark.parametrize(
    ("interval", "decided", "words"),
    [
        ((9.6, 7.9, 11.5), True, "Function words come 9.6 states before content words"),
        ((-2.0, -3.0, -1.0), True, "Content words come 2.0 states before function words"),
        ((1.0, -1.0, 3.0), False, "Not decided"),
        ((np.nan, np.nan, np.nan), False, "Not decided: too few words"),
    ],
)
def test_function_words_come_first_or_not_or_it_is_not_decided(interval: Interval, decided: bool, words: str):
    axes: dict[str, list[object]] = {"definition": ["first", "stable"], "k": [1, 10]}
    found = filled("difference", axes, (99.0, 98.0, 100.0))
    for part, value in zip((found.value, found.low, found.high), interval, strict=True):
        assert part is not None
        part[0, 0] = value
    said = rules.function_words_first(of("pos_depth", found))
    assert said.decided == decided
    assert words in said.sentence


@pytest.mark.parametrize(
    ("interval", "decided", "words"),
    [
        ((0.2, 0.1, 0.3), True, "At 95 % agreement, cosine would save 20% of the operations"),
        ((0.0047, 0.001, 0.009), True, "cosine would save 0.5% of the operations"),
        ((-0.5, -0.6, -0.4), True, "no policy saves operations"),
        ((0.1, -0.1, 0.3), False, "Not decided"),
        ((np.nan, np.nan, np.nan), False, "Not decided: too few documents"),
    ],
)
def test_exits_pay_or_not_or_it_is_not_decided(interval: Interval, decided: bool, words: str):
    axes: dict[str, list[object]] = {"policy": ["prob", "cosine"], "every": [1, 4], "target": [90, 95, 99]}
    found = filled("net_saving", axes, (-3.0, -4.0, -2.0) if np.isfinite(interval[0]) else interval)
    for part, value in zip((found.value, found.low, found.high), interval, strict=True):
        assert part is not None
        part[1, 1, 1] = value
        part[0, 0, 0] = 5.0  # another target decides nothing
    said = rules.exits_pay(of("early_exit", found))
    assert said.decided == decided
    assert words in said.sentence


@pytest.mark.parametrize(
    ("saved", "damage", "decided", "words"),
    [
        ((0.2, 0.1, 0.3), (0.05, 0.0, 0.09), True, "At confidence 0.9 exits save operations"),
        ((0.2, 0.1, 0.3), (0.5, 0.2, 0.8), True, "Exits do not pay"),
        ((-2.5, -2.8, -2.2), (0.05, 0.0, 0.09), True, "Exits do not pay"),
        ((0.2, 0.1, 0.3), (0.05, 0.0, 0.3), False, "Not decided"),
        ((0.1, -0.1, 0.3), (0.05, 0.0, 0.09), False, "Not decided"),
    ],
)
def test_exits_pay_in_written_text_where_they_save_and_do_no_harm(
    saved: Interval, damage: Interval, decided: bool, words: str
):
    axes: dict[str, list[object]] = {"confidence": [0.5, 0.9]}
    found = (filled("net_saving", axes, (-3.0, -4.0, -2.0)), filled("damage", axes, (9.0, 8.0, 9.5)))
    for each, interval in zip(found, (saved, damage), strict=True):
        for part, value in zip((each.value, each.low, each.high), interval, strict=True):
            assert part is not None
            part[1] = value  # the other confidence neither saves nor spares the text
    said = rules.exits_pay_in_writing(of("exit_price", *found))
    assert said.decided == decided
    assert words in said.sentence
    assert "threshold 0.1" in said.because
