"""Ranges of fields: what they hold, and in which words they say it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from depthscope.errors import BadInput, UnknownName
from depthscope.ranges import Range, above, at_least, check_names, check_ranges


@pytest.mark.parametrize(
    ("allowed", "words", "inside", "outside"),
    [
        (at_least(1), "1 or more", (1, 7), (0, 0.99, math.nan)),
        (above(0), "above 0", (1e-9, 5), (0, -1, math.nan)),
        (at_least(0, most=1), "from 0 to 1", (0, 1), (-0.1, 1.1)),
        (at_least(0, below=1), "at least 0 and below 1", (0, 0.9), (1, -1)),
        (above(0, most=0.4), "above 0 and at most 0.4", (0.1, 0.4), (0, 0.41)),
        (above(0, below=1), "above 0 and below 1", (0.5,), (0, 1)),
    ],
)  # fmt: skip
def test_a_range_holds_its_numbers_and_says_which(
    allowed: Range, words: str, inside: tuple[float, ...], outside: tuple[float, ...]
):
    assert str(allowed) == words
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)


def test_every_field_outside_its_range_is_named_with_what_it_holds():
    thing = SimpleNamespace(steps=0, rate=-1.0, rows=4, ridge=(0.1, 0.0), lengths=(), draws=0)
    check_ranges(thing, rows=at_least(4))
    with pytest.raises(BadInput) as refused:
        check_ranges(
            thing, steps=at_least(1), rate=above(0), rows=at_least(1), ridge=above(0), lengths=at_least(2),
            draws=at_least(1, what="uniform samples"),
        )  # fmt: skip
    assert str(refused.value) == (
        "steps=0 must be 1 or more, rate=-1.0 must be above 0, ridge=(0.1, 0.0) must be one number or more, each above "
        "0, lengths=() must be one number or more, each 2 or more, draws=0 (uniform samples) must be 1 or more"
    )


def test_a_name_that_is_none_of_the_known_ones_is_told_with_those_near_it():
    known = {"mode": ("robust", "paper"), "parts": ("attention", "mlp")}
    check_names(SimpleNamespace(mode="paper", parts=("mlp",)), **known)
    with pytest.raises(UnknownName, match="unknown value of mode 'papr'; did you mean 'paper'"):
        check_names(SimpleNamespace(mode="papr", parts=("mlp",)), **known)
    with pytest.raises(UnknownName, match="unknown value of parts 'head'; known: attention, mlp"):
        check_names(SimpleNamespace(mode="paper", parts=("mlp", "head")), **known)
    with pytest.raises(BadInput, match="parts is empty; give one or more of attention, mlp"):
        check_names(SimpleNamespace(mode="paper", parts=()), **known)
