"""The study of greedy pruning leaves a run folder whose numbers are those of the search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depthscope.engine.reading import Reading
from depthscope.engine.removal import removal_order
from depthscope.engine.study import conduct
from depthscope.errors import BadInput
from depthscope.fits.greedy_pruning import GreedyPruning
from depthscope.runtime.tiny import tiny

TEXTS = [f"the tide took boat number {k} away and brought {k * k} back" for k in range(9)]


def test_the_run_holds_the_best_set_of_each_size_and_what_it_took(tmp_path: Path) -> None:
    model = tiny("llama", num_hidden_layers=5)
    reading = Reading(TEXTS, tokens=200, window=16)
    run = conduct("greedy_pruning", GreedyPruning(remove=2, protect=(3,)), model, reading, tmp_path / "run")
    found = run["greedy_pruning"]
    windows = [w.ids for w in reading.windows(model).items if len(w.ids) > 1]
    expected = removal_order(model, windows, 2, also=[3])
    assert np.asarray(found["loss_increase"].axes["kept"]).tolist() == [4, 3]
    for row, level in enumerate(expected.levels):
        np.testing.assert_allclose(found["loss_increase"].value[row], level.loss_increase, rtol=1e-9)
        order = np.zeros(5)
        order[list(level.removed)] = np.arange(1, row + 2)
        np.testing.assert_array_equal(found["removed"].value[row], order)
        assert (found["calls"].value[row], found["separate"].value[row]) == (level.calls, level.separate)
    low, high = found["loss_increase"].low, found["loss_increase"].high
    assert low is not None
    assert high is not None
    assert (low <= found["loss_increase"].value).all()
    assert (found["loss_increase"].value <= high).all()
    assert found["removed"].value[1, [0, 3, 4]].tolist() == [0, 0, 0]
    assert "layer 3 (asked for)" in found.findings.notes[0]


def test_more_layers_than_are_free_are_refused_before_any_search(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="4 layers are to go, 2 of 4 are free; protected: 0"):
        conduct(
            "greedy_pruning",
            GreedyPruning(remove=4),
            tiny("llama"),
            Reading(TEXTS, tokens=99, window=16),
            tmp_path,
        )
