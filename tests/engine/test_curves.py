"""Where a mean curve has crossed a line for good, and areas under curves."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.engine.curves import area, crossing, for_good
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.runtime.tiny import tiny


@pytest.mark.parametrize(
    ("held", "state"),
    [([0, 0, 1, 1], 2), ([1, 0, 1, 1], 2), ([1, 1, 1, 1], 0), ([0, 0, 0, 1], 3), ([1, 1, 1, 0], 4)],
)
def test_what_is_lost_again_has_not_been_reached(held: list[int], state: int) -> None:
    assert for_good(np.asarray([held], bool)).tolist() == [state]


def test_the_area_under_a_line_is_its_middle() -> None:
    assert area(np.array([[0.0, 0.5, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])).tolist() == [0.5, 1, 0.25]


def test_a_crossing_comes_with_the_interval_of_its_units() -> None:
    # two documents that cross at state 1, two at state 3: the mean crosses one half at 1 or 3, as they are drawn
    early, late = [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    items = PerDocument.of(["a", "b", "c", "d"], np.array([early, early, late, late]))
    found = crossing(items, lambda c: c >= 0.5, "half", Facts.of(tiny("llama").anatomy, "documents", 0), "")
    assert found.scalar() == 1
    assert (found.low, found.high) == (1, 3)
    assert (found.n, found.n_items) == (4, 4)
