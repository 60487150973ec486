"""The verdict on the compression valley: none, made by one token, real, or not decided."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.report.valley import one_token
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text

TEXT = Text("Title", "Why?", "So.", "Look.", "Careful.", "Me 2020.")
MODES = ("wei", "wei_no_first", "wei_no_massive", "uncentred")
FLAT = [0.70, 0.72, 0.75, 0.74, 0.76, 0.77, 0.65]
DEEP = [0.70, 0.72, 0.75, 0.49, 0.55, 0.60, 0.65]


def profile(spread: float = 0.02, **curves: list[float]) -> dict[str, Result]:
    """Curves of each mode over states 0 to 6, with one half-width for all intervals."""
    value = np.stack([curves.get(mode, FLAT) for mode in MODES], -1)
    axes = {"state": np.arange(7), "mode": np.asarray(MODES)}
    n = np.full(value.shape, 33)
    found = Measurement("prompt_entropy", axes, value, "1", value - spread, value + spread, n, n)
    return {
        "representation_profile": Result(
            "representation_profile", {}, Findings({found.name: found}), TEXT, {}
        )
    }


@pytest.mark.parametrize(
    ("curves", "spread", "decided", "words"),
    [
        ({}, 0.001, True, "there is no valley"),
        (
            {"wei": DEEP},
            0.02,
            True,
            "falls by 0.26 between states 2 and 3; without the first token 0.01 of it",
        ),
        ({"wei": DEEP, "wei_no_first": DEEP}, 0.02, True, "without massive tokens 0.01 of it is left"),
        ({"wei": DEEP, "wei_no_first": DEEP, "wei_no_massive": DEEP}, 0.02, True, "the middle compresses"),
        ({"wei": DEEP, "wei_no_first": [*DEEP[:3], 0.75, *DEEP[4:]]}, 0.02, True, "nothing of it is left"),
        ({"wei": DEEP}, 0.1, False, "whether there is a valley"),
        (
            {m: [*DEEP[:3], 0.61, *DEEP[4:]] for m in MODES[1:3]} | {"wei": DEEP},
            0.02,
            False,
            "what massive tokens add",
        ),
    ],
)
def test_a_valley_is_one_token_or_the_middle_or_not_decided(
    curves: dict[str, list[float]], spread: float, decided: bool, words: str
) -> None:
    said = one_token(profile(spread, **curves))
    assert said.decided == decided
    assert words in said.sentence
    assert "n = 33" in said.because


def test_only_the_states_of_the_valley_are_compared() -> None:
    # what happens behind the lowest state is no part of the fall
    said = one_token(profile(wei=DEEP, wei_no_first=[0.7, 0.72, 0.75, 0.75, 0.2, 0.2, 0.2]))
    assert "nothing of it is left" in said.sentence
