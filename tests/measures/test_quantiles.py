"""Quantiles of several cells against numpy's, and their intervals against a loop over draws."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.errors import BadInput
from depthscope.measures.quantiles import bootstrap_quantiles

SHARES = (0.1, 0.5, 0.9)


def test_values_are_the_inverted_distribution_and_intervals_those_of_a_loop() -> None:
    generator = np.random.default_rng(2)
    values, units = generator.normal(size=(41, 3)), generator.integers(0, 6, 41).astype(str)
    found = bootstrap_quantiles(values, units, SHARES, draws=50, seed=7)
    np.testing.assert_array_equal(found.value, np.quantile(values, SHARES, axis=0, method="inverted_cdf"))
    names = np.unique(units)
    weights = np.random.default_rng(7).multinomial(len(names), np.full(len(names), 1 / len(names)), size=50)
    drawn = [
        [
            np.quantile(
                np.concatenate(
                    [np.repeat(values[units == u, 1], w) for u, w in zip(names, row, strict=True)]
                ),
                share,
                method="inverted_cdf",
            )
            for row in weights
        ]
        for share in SHARES
    ]
    np.testing.assert_allclose(found.low[:, 1], np.percentile(drawn, 2.5, axis=1))
    np.testing.assert_allclose(found.high[:, 1], np.percentile(drawn, 97.5, axis=1))


def test_missing_cells_single_units_and_nothing_at_all_have_no_interval() -> None:
    values = np.array([[1.0, np.nan], [2, 3]])
    one = bootstrap_quantiles(values, np.array(["a", "a"]), (0.5,))
    np.testing.assert_array_equal(one.value, [[1, np.nan]])
    assert np.isnan(one.low).all()
    assert np.isnan(bootstrap_quantiles(values[:0], np.array([], str), (0.5,)).value).all()


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match=r"above 0 and at most 1, found \[0.0\]"):
        bootstrap_quantiles(np.ones((2, 1)), np.array(["a", "b"]), (0.0,))
