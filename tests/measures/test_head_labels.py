"""Labels of heads by hand: thresholds, ranks, and what stays open where a score was not measured."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.errors import BadInput
from depthscope.measures.head_labels import RULES, head_labels

NAN = np.nan


def one(**scores: float) -> dict[str, float]:
    found = head_labels({name: np.array([[value]]) for name, value in scores.items()})
    return {label: float(value[0, 0]) for label, value in found.items() if value[0, 0] != 0}


def known(**scores: float) -> set[str]:
    return {label for label, value in one(**scores).items() if value == 1}


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ({"previous": 0.4}, {"previous"}),
        ({"previous": 0.39}, set()),
        ({"sink": 0.31, "first_weighted": 0.29}, {"sink"}),
        ({"sink": 0.3, "first_weighted": 0.1}, set()),
        ({"sink": 0.9, "first_weighted": 0.3}, set()),
        ({"retrieval": 0.5}, {"retrieval", "strong_retrieval"}),
        ({"retrieval": 0.1}, {"retrieval"}),
        ({"induction": 0.2}, {"induction"}),
        ({"induction": 0.9, "copying": -0.5}, {"induction", "strong_induction"}),
        ({"induction": 0.19, "copying": 1.0}, set()),
        ({"grammar": 0.5, "grammar_gain": 0.1, "grammar_gain_low": 0.001}, {"grammar"}),
        ({"grammar": 0.5, "grammar_gain": 0.1, "grammar_gain_low": 0.0}, set()),
        ({"best_offset_mass": 0.8, "best_offset": 3}, {"offset"}),
        ({"best_offset_mass": 0.8, "best_offset": 1}, set()),
        ({"write_share": 0.005, "ablation_errors": 1.0}, {"dead"}),
        ({"entropy_norm": 0.81}, {"broad"}),
    ],
)
def test_a_label_holds_at_its_threshold_and_not_beyond(scores: dict[str, float], labels: set[str]):
    assert known(**scores) == labels


def test_what_was_not_measured_leaves_a_label_open_unless_the_rest_decides_it():
    assert np.isnan(one(grammar=0.6)["grammar"])
    assert "grammar" not in one(grammar=0.4)
    assert "streaming" in known(gate=0.2), "one alternative is enough"
    far = {"gate": np.array([[0.7, 0.7, 0.2]]), "far_mass": np.array([[NAN, 0.2, NAN]])}
    np.testing.assert_array_equal(head_labels(far)["streaming"], [[NAN, 0, 1]])
    assert "streaming" not in one(gate=0.7), "what no head has cannot be asked"
    assert "streaming" not in one(gate=0.7, far_mass=0.2)
    assert np.isnan(one(write_share=0.005)["dead"])
    assert "dead" not in one(write_share=0.5)
    assert np.isnan(one(self=NAN)["self"])


def test_ranks_take_the_place_of_thresholds_and_leave_signs_alone():
    scores = {"previous": np.arange(20.0).reshape(4, 5) / 1000, "far_mass": np.arange(20.0).reshape(4, 5)}
    assert not head_labels(scores)["previous"].any()
    by_rank = head_labels(scores, rank=0.1)
    assert np.flatnonzero(by_rank["previous"]).tolist() == [18, 19]
    assert np.flatnonzero(by_rank["streaming"] == 1).tolist() == [0, 1]
    low = {"grammar": np.arange(4.0)[None], "grammar_gain": np.arange(4.0)[None]}
    low["grammar_gain_low"] = np.array([[1.0, 1, 1, -1]])
    assert head_labels(low, rank=0.5)["grammar"].tolist() == [[0, 0, 1, 0]]


def test_a_function_vector_head_is_among_the_first_fiftieth_and_certain():
    effect = np.arange(100.0).reshape(10, 10)
    certain = {"function_vector": effect, "function_vector_errors": np.full((10, 10), 4.0)}
    assert np.flatnonzero(head_labels(certain)["function_vector"]).tolist() == [98, 99]
    doubtful = certain | {"function_vector_errors": np.full((10, 10), 2.0)}
    assert not head_labels(doubtful)["function_vector"].any()


def test_every_label_has_its_own_name_and_wrong_inputs_are_refused():
    assert len({rule.label for rule in RULES}) == len(RULES)
    with pytest.raises(BadInput, match=r"rank=1\.0"):
        head_labels({"self": np.zeros((1, 1))}, rank=1.0)
    with pytest.raises(BadInput, match="one size"):
        head_labels({"self": np.zeros((1, 1)), "previous": np.zeros((1, 2))})
