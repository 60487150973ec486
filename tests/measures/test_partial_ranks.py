"""Partial rank correlations against residuals of a regression on ranks, and what a planted common cause does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from depthscope.measures.partial_ranks import partial_rank_correlation

N, CELLS = 120, 6
UNITS = np.arange(N) // 2


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two quantities that share a cause, and two further ones of which the first is the cause."""
    rng = np.random.default_rng(seed)
    cause, other = rng.normal(size=(2, N, CELLS))
    noise = rng.normal(size=(2, N, CELLS))
    return cause + noise[0], np.exp(cause + noise[1]), np.stack([cause, other])


def by_residuals(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Pearson's correlation of what a regression on the ranks of `given` leaves of both ranks."""
    ranks = [rankdata(v) for v in (x, y, *given)]
    design = np.column_stack([np.ones(len(x)), *ranks[2:]])
    left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in ranks[:2]]
    return float(np.corrcoef(left[0], left[1])[0, 1])


def test_without_further_quantities_it_is_spearmans_correlation() -> None:
    x, y, given = drawn(0)
    found = partial_rank_correlation(x, np.round(y), given[:0], UNITS)
    expected = [spearmanr(x[:, k], np.round(y[:, k]))[0] for k in range(CELLS)]
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)


def test_what_is_given_is_taken_out_as_a_regression_on_ranks_does() -> None:
    x, y, given = drawn(1)
    found = partial_rank_correlation(x, y, given, UNITS)
    expected = [by_residuals(x[:, k], y[:, k], given[:, :, k]) for k in range(CELLS)]
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)


def test_a_common_cause_explains_a_correlation_away() -> None:
    x, y, given = drawn(2)
    plain = partial_rank_correlation(x, y, given[1:], UNITS, pooled=True)
    beyond = partial_rank_correlation(x, y, given, UNITS, pooled=True)
    assert plain.low[0] > 0.3
    assert beyond.low[0] < 0 < beyond.high[0]


def test_pooled_ranks_are_taken_within_cells() -> None:
    # both rise from cell to cell, and within a cell they have nothing to do with each other
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, N, CELLS)) + 10 * np.arange(CELLS)
    found = partial_rank_correlation(x, y, np.zeros((0, N, CELLS)), UNITS, pooled=True)
    assert abs(found.value[0]) < 0.1
    assert spearmanr(x.ravel(), y.ravel())[0] > 0.9


def test_items_without_a_number_are_left_out_of_their_cell() -> None:
    x, y, given = drawn(4)
    x[:20, 0] = np.nan
    found = partial_rank_correlation(x, y, given, UNITS)
    assert found.value[0] == pytest.approx(by_residuals(x[20:, 0], y[20:, 0], given[:, 20:, 0]))
    assert found.value[1] == pytest.approx(by_residuals(x[:, 1], y[:, 1], given[:, :, 1]))


def test_the_interval_widens_where_units_repeat_themselves() -> None:
    x, y, given = drawn(5)
    alone = partial_rank_correlation(x, y, given[:0], np.arange(N))
    copied = partial_rank_correlation(
        np.repeat(x[::4], 4, 0), np.repeat(y[::4], 4, 0), given[:0], np.arange(N) // 4
    )
    assert ((copied.high - copied.low) > 1.5 * (alone.high - alone.low)).mean() > 0.5


def test_what_does_not_vary_has_no_correlation_and_one_unit_no_interval() -> None:
    x, y, given = drawn(6)
    x[:, 0] = 1.0
    found = partial_rank_correlation(x, y, given, np.zeros(N))
    assert np.isnan(found.value[0])
    assert np.isnan(found.low).all()
    assert np.isfinite(found.value[1:]).all()
    # a quantity that the given ones explain wholly has nothing left
    assert np.isnan(partial_rank_correlation(given[0], y, given, UNITS).value).all()
