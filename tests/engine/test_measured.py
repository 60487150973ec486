"""From totals to measurements, on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.engine.measured import mean, median, part, ratio
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument, Rows, Sum, Tally
from depthscope.errors import BadInput

FACTS = Facts(2, 2, 8, ("attention",) * 2, (None, None), True, False, False, True, "documents", 0)
AXES = {"layer": np.arange(2)}


def test_a_mean_is_the_ratio_of_sums_with_its_counts():
    found = mean(
        PerDocument.of(["a", "a", "b"], np.asarray([[1.0, 0.0], [2.0, np.nan], [6.0, np.nan]])),
        "x",
        AXES,
        "nats",
        FACTS,
    )
    np.testing.assert_allclose(found.value, [3.0, 0.0])
    np.testing.assert_array_equal(found.n, [2, 1])
    np.testing.assert_array_equal(found.n_items, [3, 1])
    assert found.unit == "nats"


def test_an_interval_goes_over_documents_not_over_items():
    """Two documents of a thousand equal items each: the value is only as sure as two documents make it."""
    values = np.repeat([0.0, 1.0], 1000)[:, None].repeat(2, 1)
    found = mean(PerDocument.of(["a"] * 1000 + ["b"] * 1000, values), "x", AXES, "1", FACTS)
    assert found.low is not None
    assert found.high is not None
    np.testing.assert_array_equal(found.low, [0, 0])
    np.testing.assert_array_equal(found.high, [1, 1])


def test_an_interval_of_equal_documents_is_a_point():
    found = mean(PerDocument.of(list("abcdefgh"), np.full((8, 2), 3.5)), "x", AXES, "1", FACTS)
    assert found.low is not None
    assert found.high is not None
    np.testing.assert_array_equal(found.low, found.value)
    np.testing.assert_array_equal(found.high, found.value)


def test_the_interval_of_normal_documents_is_near_the_textbook_one():
    values = np.random.default_rng(0).normal(size=(200, 2))
    found = mean(PerDocument.of([f"{k:03d}" for k in range(200)], values), "x", AXES, "1", FACTS)
    half = 1.96 * values.std(0) / np.sqrt(200)
    assert found.low is not None
    assert found.high is not None
    np.testing.assert_allclose(found.value - found.low, half, rtol=0.15)
    np.testing.assert_allclose(found.high - found.value, half, rtol=0.15)


def test_equal_seeds_give_equal_intervals_and_other_seeds_others():
    values = PerDocument.of(list("abcdefgh"), np.random.default_rng(1).normal(size=(8, 2)))
    one, again = (mean(values, "x", AXES, "1", FACTS) for _ in range(2))
    other = mean(values, "x", AXES, "1", Facts(**{**FACTS.__dict__, "seed": 1}))
    np.testing.assert_array_equal(one.low, again.low)
    assert (one.low != other.low).any()
    np.testing.assert_array_equal(one.value, other.value)


def test_a_cell_without_finite_items_is_missing_with_a_reason():
    found = mean(
        PerDocument.of(["a", "b"], np.asarray([[1.0, np.nan], [2.0, np.nan]])), "x", AXES, "1", FACTS
    )
    assert np.isnan(found.value).tolist() == [False, True]
    assert found.missing
    np.testing.assert_array_equal(found.n_items, [2, 0])


def test_a_ratio_divides_sums_and_not_means_of_ratios():
    top = PerDocument.of(["a", "b"], np.asarray([[1.0, 1.0], [3.0, 1.0]]))
    bottom = PerDocument.of(["a", "b"], np.asarray([[1.0, 2.0], [7.0, 2.0]]))
    np.testing.assert_allclose(ratio(top, bottom, "x", AXES, "1", FACTS).value, [0.5, 0.5])
    with pytest.raises(BadInput, match="same units"):
        ratio(top, PerDocument.of(["a"], np.ones((1, 2))), "x", AXES, "1", FACTS)


def test_a_median_has_its_interval_over_units():
    columns = {"rank": np.asarray([[1.0, 5.0], [2.0, 5.0], [9.0, 5.0]]), "unit": np.asarray(["a", "b", "c"])}
    found = median(Rows(np.arange(3, dtype=np.uint64), columns, 9), "rank", "x", AXES, "1", FACTS)
    np.testing.assert_array_equal(found.value, [2, 5])
    np.testing.assert_array_equal(found.low, [1, 5])
    np.testing.assert_array_equal(found.high, [9, 5])
    np.testing.assert_array_equal(found.n, [3, 3])
    np.testing.assert_array_equal(found.n_items, [3, 3])


def test_a_missing_part_or_one_of_another_kind_is_named():
    total = Tally({"a": Sum(np.zeros(1), np.zeros(1))})
    with pytest.raises(BadInput, match="no PerDocument 'a'; it holds a"):
        part(total, "a", PerDocument)
    with pytest.raises(BadInput, match="no Sum 'b'"):
        part(total, "b", Sum)
