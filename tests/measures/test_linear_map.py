"""Linear maps and their diagonal: values worked out by hand."""

from __future__ import annotations

import numpy as np
import torch

from depthscope.measures.linear_map import (
    best_sources,
    direction_error,
    directions,
    rank_correlation,
    sharpness,
    slopes,
    spectral,
)


def test_directions_are_orthonormal_and_depend_on_the_seed():
    found = directions(9, 4, seed=3)
    torch.testing.assert_close(found.T @ found, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(found, directions(9, 4, seed=3), rtol=0, atol=0)
    assert float((found - directions(9, 4, seed=4)).abs().max()) > 0.01


def test_the_squared_norm_on_directions_is_their_share_on_average():
    """A fixed unit vector on 4 of 16 directions: 1/4 on average over 400 draws, give or take 0.02."""
    one = torch.zeros(16, dtype=torch.float64)
    one[3] = 1
    found = [float((one @ directions(16, 4, seed=k)).square().sum()) for k in range(400)]
    assert abs(np.mean(found) - 0.25) < 0.02


def test_a_ridge_in_its_eigenbasis_is_the_plain_formula():
    """G = diag(1, 3), C = (2, 6): with penalty 1 W = (2/2, 6/4), with penalty 3 W = (2/4, 6/6)."""
    gram, cross = torch.diag(torch.tensor([1.0, 3.0])), torch.tensor([[2.0, 2.0], [6.0, 6.0]])
    found = spectral(gram, cross).weights(torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5], [1.5, 1.0]]))


def test_directions_of_vectors_forget_their_lengths():
    """(3, 0) and (0, 5): unit vectors at a right angle are sqrt(2) apart; (2, 0) and (-1, 0) are 2 apart."""
    a, b = (
        torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[0.0, 5.0], [-1.0, 0.0], [1.0, 0.0]]),
    )
    torch.testing.assert_close(direction_error(a, b), torch.tensor([2**0.5, 2.0, 1.0]))


def test_the_best_source_is_the_first_of_equal_ones():
    errors = np.array([[[0.3, 0.5], [0.1, 0.2], [0.2, 0.2]]])
    assert best_sources(errors).tolist() == [[1, 1]]


def test_rank_correlation_gives_ties_their_mean_rank():
    """(1, 1, 2) has ranks (1.5, 1.5, 3) against (1, 2, 3): 1.5 / sqrt(1.5 * 2) = sqrt(3) / 2; a constant has none."""
    found = rank_correlation(
        np.array([[1.0, 1.0, 2.0], [7.0, 7.0, 7.0], [9.0, 5.0, 1.0]]), np.array([0.1, 0.2, 0.9])
    )
    np.testing.assert_allclose(found, [3**0.5 / 2, np.nan, -1.0])


def test_slopes_have_a_free_intercept():
    """(5, 5.5, 6) on (0, 1, 2) rises by a half; a constant does not rise."""
    found = slopes(np.array([[5.0, 5.5, 6.0], [2.0, 2.0, 2.0]]), np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(found, [0.5, 0.0], atol=1e-12)


def test_sharpness_is_the_rise_a_quarter_of_the_depth_off_the_diagonal():
    """Error = distance of depths, both of 4 steps: 0 on the diagonal, 0.25 a quarter off, at every target."""
    depth = np.array([0.25, 0.5, 0.75, 1.0])
    errors = np.abs(depth[:, None] - depth)[None]
    np.testing.assert_allclose(sharpness(errors, depth, depth), [0.25])
    np.testing.assert_allclose(sharpness(errors * 0, depth, depth), [0.0])
