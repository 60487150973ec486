"""The verdict on linear maps decides for either hypothesis, and says when it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import linear_maps, measurement

from depthscope.report.linear_maps import depth_kept

CASES = (((0.2, 0.15, 0.25), "relative depth, on average 2%"), ((-0.1, -0.2, -0.05), "absolute depth"))


@pytest.mark.parametrize(("difference", "kind"), CASES)
def test_an_interval_on_one_side_of_zero_decides(difference: tuple[float, float, float], kind: str):
    said = depth_kept({"linear_maps": linear_maps(difference)})
    assert said.decided
    assert kind in said.sentence
    assert "n = 24" in said.because


def test_an_interval_that_holds_zero_and_a_flat_map_do_not_decide():
    for found in (linear_maps((0.1, -0.05, 0.2)), linear_maps(sharp=0.0)):
        said = depth_kept({"linear_maps": found})
        assert not said.decided
        assert said.sentence.startswith("Not decided")


def test_models_of_equal_depth_cannot_tell_the_hypotheses_apart():
    found = linear_maps()
    more = {
        **found.findings.measurements,
        "error_by_offset": measurement("error_by_offset", {"offset": [0]}, [0.1]),
    }
    said = depth_kept({"linear_maps": replace(found, findings=replace(found.findings, measurements=more))})
    assert not said.decided
    assert "equally deep" in said.sentence
