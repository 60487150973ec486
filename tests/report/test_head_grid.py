"""The grid of heads: every head once, its labels as signs, all text escaped, and nothing where there is no atlas."""

from __future__ import annotations

import json

import numpy as np
from grammar_results import HEADS, HOSTILE, LAYERS, grammar_heads, head_atlas

from depthscope.report.head_grid import SIGNS, head_grid


def test_every_head_stands_once_with_its_labels():
    grid = head_grid(head_atlas())
    assert grid is not None
    cells = [(layer, cell.head) for layer, row in grid.rows for cell in row]
    assert cells == [(a, b) for a in range(LAYERS) for b in range(HEADS)]
    (first, *_) = grid.rows[0][1]
    assert (first.signs, first.said) == (SIGNS["previous"], "previous")
    counts = {label: count for _, label, count in grid.legend}
    labels = head_atlas().findings.examples["heads"].columns["labels"]
    assert counts == {name: int((labels == name).sum()) for name in ("previous", "induction")}


def test_scores_that_nobody_measured_get_no_column_and_missing_numbers_stay_missing():
    grid = head_grid(head_atlas())
    assert grid is not None
    assert grid.columns == ("previous", "induction")
    data = json.loads(grid.data)
    assert set(data["scores"]) == {"previous", "induction"}
    assert data["scores"]["induction"]["low"][0] == np.round(-0.05, 3)
    assert data["places"][HEADS] == "L1H0"
    assert data["arcs"][0] == [["dog", "the", 0.5]]


def test_other_results_have_no_grid():
    assert head_grid(grammar_heads()) is None


def test_model_text_cannot_leave_the_data():
    grid = head_grid(head_atlas())
    assert grid is not None
    assert HOSTILE not in grid.data
    assert json.loads(grid.data)["arcs"][1][0][0] == HOSTILE
