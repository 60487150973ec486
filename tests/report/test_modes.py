"""The verdict on entropy modes names states, tries massive tokens and length, and does not mistake silence for no."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.report.modes import two_kinds_of_prompts
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text

MODES, KINDS = ("wei", "wei_no_first", "wei_no_massive"), ("plain", "length_removed")
AXES = {"state": np.arange(5), "mode": np.array(MODES), "variant": np.array(KINDS)}


def result(
    wei: list[int], massive: list[int], length: list[int], n: int = 400, half: float = 0.1
) -> dict[str, Result]:
    """The states that are called bimodal in each of three cells."""
    judged = np.zeros((5, 3, 2))
    judged[wei, 0, 0] = judged[massive, 2, 0] = judged[length, 0, 1] = 1
    if n < 100:
        judged[:] = np.nan

    def made(name: str, value: np.ndarray) -> Measurement:
        counts = np.full(value.shape, n)
        return Measurement(
            name, AXES, value, "1", n=counts, n_items=counts, missing="insufficient: 99 prompts"
        )

    signs = {
        "dip_p": 0.2 - 0.19 * judged,
        "bic_gain": 90 * judged,
        "ashman_d": 3 * judged,
        "minor_weight": 0.3 * judged,
    }
    share = np.where(judged[:, 0, 0] == 1, 0.3, np.nan)
    found = [
        Measurement(
            "high_share", {"state": AXES["state"]}, share, "1", share - half, share + half, missing="one mode"
        )
    ]
    found += [made("bimodal", judged), *(made(name, value) for name, value in signs.items())]
    text = Text("Title", "Why?", "So.", "Look.", "Careful.", "Me 2020.")
    return {"entropy_modes": Result("entropy_modes", {}, Findings({m.name: m for m in found}), text, {})}


@pytest.mark.parametrize(
    ("given", "decided", "words"),
    [
        (
            ([2, 3], [], [2, 3]),
            True,
            "two modes at state 2, 3 of 4; at none of them without massive positions",
        ),
        (([2, 3], [3], [2]), True, "without massive positions still at state 3."),
        (([2, 3], [], []), True, "Once length is taken out none is left."),
        (([], [], []), True, "No state's prompt entropies are called bimodal"),
        (([], [], [], 200), False, "200 prompts are fewer than 300"),
        (([2], [], [2], 400, 0.26), False, "no interval of a mode's share keeps 5% from 0 and 1"),
        (([], [], [], 99), False, "Not decided: insufficient: 99 prompts"),
    ],
)
def test_states_are_named_or_nothing_is_decided(given: tuple, decided: bool, words: str):
    said = two_kinds_of_prompts(result(*given))
    assert said.decided == decided
    assert words in said.sentence


def test_the_reason_shows_every_sign_of_the_surest_state():
    said = two_kinds_of_prompts(result([2], [], [2]))
    assert (
        "400 prompts: 1 of 5 states; the dip is surest at state 2: p 0.01 (0.01), BIC gain 90 (10)"
        in said.because
    )
