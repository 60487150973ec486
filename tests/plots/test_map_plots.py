"""What the plots of linear maps draw, beyond what every plot promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from synthetic import L, linear_maps, measurement

from depthscope.plots import map_baselines, map_best


def series_of(spec: dict[str, Any], name: str) -> dict[int, float]:
    rows = [row for rows in spec["datasets"].values() for row in rows if row.get("series") == name]
    return {row["state"]: row["value"] for row in rows if "value" in row}


def test_the_best_source_stands_beside_both_hypotheses():
    spec = map_best.plot(linear_maps())
    assert series_of(spec, "best source")[3] == 2
    assert series_of(spec, "relative depth")[3] == 1.5
    assert series_of(spec, "absolute depth")[2 * L] == L


def test_the_error_of_the_best_source_is_that_of_its_row():
    """State 3 of 24 from source 2 of 12: 0.2 + |2/12 - 3/24|."""
    drawn = series_of(map_baselines.plot(linear_maps()), "best source")
    np.testing.assert_allclose(drawn[3], 0.2 + 1 / 24)


def test_a_model_onto_itself_is_drawn_from_its_best_other_source():
    found = linear_maps()
    others = measurement("best_other_source", {"state": np.arange(1, 2 * L + 1)}, np.full(2 * L, 1.0))
    measured = {**found.findings.measurements, "best_other_source": others}
    spec = map_baselines.plot(replace(found, findings=replace(found.findings, measurements=measured)))
    np.testing.assert_allclose(series_of(spec, "best other source")[6], 0.2 + abs(1 / 12 - 6 / 24))
