"""The sentence on erasure: both halves of the depth, and each reason to decide nothing."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import L, residual_erasure

from depthscope.report.erasure import question_needed


@pytest.mark.parametrize(("until", "half"), [(0.8 * L, "second"), (0.3 * L, "first")])
def test_a_point_of_no_return_clear_of_the_middle_is_said(until: float, half: str) -> None:
    found = question_needed({"residual_erasure": residual_erasure(until)})
    assert found.decided
    assert found.sentence == (
        f"Question tokens are needed until state {until:.1f} of {L} on average, in the {half} half of the depth."
    )
    assert "The model answers 50% of these prompts." in found.because


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"until": 0.52 * L}, "the interval holds half of the depth"),
        ({"n": 7}, "7 prompts are fewer than 8"),
        ({"until": np.nan}, "no erasure of a question token had an effect"),
    ],
)
def test_what_is_not_clear_is_not_decided(changes: dict, why: str) -> None:
    given = {"until": 0.8 * L, **changes}
    result = residual_erasure(**given)
    found = question_needed({"residual_erasure": result})
    assert (found.decided, found.sentence) == (False, f"Not decided: {why}.")
