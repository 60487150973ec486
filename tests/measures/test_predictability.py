"""R2 in four definitions: against scikit-learn, by hand, and on the example that tells them apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from depthscope.errors import UnknownName
from depthscope.measures.predictability import Sums, mean_squared_error, narrow, r_squared, sums_of

KEPT = torch.ones(40, 6, dtype=torch.bool)


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """States [item position d] with unequal means and spreads, and guesses half-way to them."""
    generator = torch.Generator().manual_seed(seed)
    spread, mean = torch.tensor([0.1, 1.0, 4.0, 1.0, 2.0]), torch.tensor([3.0, 0.0, -2.0, 50.0, 1.0])
    h = mean + spread * torch.randn(40, 6, 5, generator=generator)
    return h, h + 0.5 * spread * torch.randn(40, 6, 5, generator=generator)


def test_two_definitions_are_those_of_scikit_learn():
    h, guess = drawn()
    sums = sums_of(h, guess, KEPT)
    flat = [part.double().reshape(-1, 5).numpy() for part in (h, guess)]
    for definition, weighting in (("dim", "variance_weighted"), ("uniform", "uniform_average")):
        expected = r2_score(*flat, multioutput=weighting)
        np.testing.assert_allclose(float(r_squared(*sums, definition)), expected, rtol=1e-9)


def test_the_other_two_are_what_their_centres_say():
    h, guess = (part.double().numpy() for part in drawn())
    errors = ((h - guess) ** 2).sum()
    sums = sums_of(torch.tensor(h), torch.tensor(guess), KEPT)
    element = 1 - errors / ((h - h.mean()) ** 2).sum()
    position = 1 - errors / ((h - h.mean(0)) ** 2).sum()
    np.testing.assert_allclose(float(r_squared(*sums, "element")), element, rtol=1e-9)
    np.testing.assert_allclose(float(r_squared(*sums, "position")), position, rtol=1e-9)
    found = mean_squared_error(sums.items, sums.errors)
    np.testing.assert_allclose(float(found), errors / h.size, rtol=1e-9)


def test_the_mean_explains_nothing_by_dimension_and_nearly_all_by_element():
    """One constant dimension of 50: about one number the mean alone has 0.99, about each dimension 0."""
    h, _ = drawn()
    mean = h.double().mean((0, 1)).expand(40, 6, 5)
    sums = sums_of(h, mean, KEPT)
    assert abs(float(r_squared(*sums, "dim"))) < 1e-9
    assert float(r_squared(*sums, "element")) > 0.98


def test_one_sink_decides_the_pooled_definition_and_hardly_the_averaged_one():
    """A target a hundred times longer, guessed as the mean, in one dimension: its squares are all that count there."""
    h, guess = drawn()
    before = sums_of(h, guess, KEPT)
    h[0, 1, 2], guess[0, 1, 2] = 400.0, -2.0
    after = sums_of(h, guess, KEPT)
    assert float(r_squared(*before, "dim")) > 0.7
    assert float(r_squared(*after, "dim")) < 0.1
    assert float(r_squared(*after, "uniform")) > 0.5
    at = narrow(*after[:3], wide=1)
    assert at.tolist() == [True, True, False, True, True]
    assert float(r_squared(after.items, *(part[:, at] for part in after[1:]), "dim")) > 0.7


def test_sums_add_up_and_leave_out_what_is_not_kept():
    h, guess = drawn()
    kept = torch.rand(40, 6, generator=torch.Generator().manual_seed(2)) > 0.3
    parts = [sums_of(h[k : k + 10], guess[k : k + 10], kept[k : k + 10]) for k in range(0, 40, 10)]
    added = Sums(*(sum(part, torch.zeros(())) for part in zip(*parts, strict=True)))
    whole = sums_of(h, guess, kept)
    for a, b in zip(added, whole, strict=True):
        torch.testing.assert_close(a, b)
    flat = [part[kept].double().numpy() for part in (h, guess)]
    expected = r2_score(*flat, multioutput="variance_weighted")
    np.testing.assert_allclose(float(r_squared(*whole, "dim")), expected, rtol=1e-9)


def test_draws_are_taken_along():
    h, guess = drawn()
    sums = sums_of(h, guess, KEPT)
    twice = [torch.stack((part, 3 * part)) for part in sums]
    found = r_squared(*twice, "dim")
    torch.testing.assert_close(found, r_squared(*sums, "dim").expand(2))


def test_what_does_not_vary_is_missing_and_an_unknown_definition_refused():
    still = torch.ones(40, 6, 5)
    assert np.isnan(float(r_squared(*sums_of(still, still, KEPT), "dim")))
    assert np.isnan(float(r_squared(*sums_of(still, still, ~KEPT), "position")))
    with pytest.raises(UnknownName, match="'uniform'"):
        r_squared(*sums_of(still, still, KEPT), "unifrom")
