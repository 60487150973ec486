"""Softmax probes against scikit-learn, on planted subspaces, and F1 scores against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import StandardScaler

from depthscope.errors import BadInput
from depthscope.measures.softmax_probe import (
    class_weights,
    f1_counts,
    macro_f1,
    micro_f1,
    softmax_probe,
)

D, CLASSES = 12, 4


def planted(n: int, seed: int, where: slice = slice(0, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose class stands in a few dimensions, in the others noise; classes of unequal size."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n, p=[0.55, 0.25, 0.15, 0.05])
    x = rng.normal(size=(n, D))
    means = np.random.default_rng(99).normal(size=(CLASSES, D)) * 2
    x[:, where] += means[labels][:, where]
    return x * np.linspace(1, 50, D) + 7, labels


def test_a_class_is_read_off_the_subspace_that_holds_it_and_off_no_other() -> None:
    (x, y), (v, w), (t, z) = (planted(n, seed) for n, seed in ((300, 0), (100, 1), (200, 2)))
    here = softmax_probe(x[:, :3], y, v[:, :3], w, t[:, :3])
    elsewhere = softmax_probe(x[:, 3:], y, v[:, 3:], w, t[:, 3:])
    scores = [macro_f1(f1_counts(p.predicted, z, CLASSES).sum(0)) for p in (here, elsewhere)]
    assert scores[0] > 0.8
    assert scores[1] < 0.4
    # with nothing to learn the largest penalties win
    assert elsewhere.penalty >= 1
    assert here.penalty < elsewhere.penalty


def test_a_fit_is_that_of_scikit_learn_at_the_same_penalty() -> None:
    (x, y), (v, w), (t, _) = (planted(n, seed) for n, seed in ((300, 3), (50, 4), (100, 5)))
    found = softmax_probe(x, y, v, w, t, penalties=(0.1,))
    scale = StandardScaler().fit(x)
    # sklearn minimises C sum w CE + |W|^2 / 2
    theirs = LogisticRegression(C=1 / (0.1 * len(x)), class_weight="balanced", max_iter=5000, tol=1e-8)
    theirs.fit(scale.transform(x), y)
    mine = found.weights - found.weights.mean(1, keepdims=True)  # softmax does not see a common shift
    other = np.concatenate([theirs.coef_, theirs.intercept_[:, None]], 1).T
    np.testing.assert_allclose(mine, other - other.mean(1, keepdims=True), atol=5e-3)
    np.testing.assert_array_equal(found.predicted, theirs.predict(scale.transform(t)))


def test_the_penalty_with_the_smallest_validation_loss_is_taken() -> None:
    (x, y), (v, w), (t, _) = (planted(n, seed) for n, seed in ((60, 6), (200, 7), (10, 8)))
    penalties = (10.0, 1.0, 0.1, 0.01)
    alone = {p: softmax_probe(x, y, v, w, t, penalties=(p,)).loss for p in penalties}
    found = softmax_probe(x, y, v, w, t, penalties=penalties)
    assert found.penalty == min(alone, key=lambda p: alone[p])
    assert found.loss == pytest.approx(alone[found.penalty], rel=2e-2)


def test_balanced_weights_make_every_class_count_alike() -> None:
    labels = np.array([0, 0, 0, 2])
    weights = class_weights(labels, 3)
    np.testing.assert_allclose(weights, [4 / (2 * 3), 0, 4 / (2 * 1)])
    assert weights[labels].mean() == pytest.approx(1)


def test_f1_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    said, true = rng.integers(0, CLASSES, (2, 80))
    counts = f1_counts(said, true, CLASSES).sum(0)
    assert macro_f1(counts) == pytest.approx(f1_score(true, said, average="macro"))
    assert micro_f1(counts) == pytest.approx(accuracy_score(true, said))
    # a class nobody has and nobody names does not count; one that is only named counts as 0
    assert macro_f1(f1_counts(np.array([0, 1]), np.array([0, 1]), 5).sum(0)) == 1
    assert macro_f1(f1_counts(np.array([0, 2]), np.array([0, 1]), 5).sum(0)) == pytest.approx(1 / 3)


def test_one_class_or_numbers_that_are_not_finite_are_refused() -> None:
    x, y = planted(20, 0)
    with pytest.raises(BadInput, match="all 20 training items have one class"):
        softmax_probe(x, np.zeros(20, int), x, y, x)
    x[3] = np.nan
    with pytest.raises(BadInput, match="1 of 20 vectors are not finite"):
        softmax_probe(x, y, x, y, x)
