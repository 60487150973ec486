"""Probes: the closed form against leaving each item out for real, and what is derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from depthscope.errors import BadInput
from depthscope.measures.probes import (
    cluster_numbers,
    draw_shots,
    few_shot_labels,
    nearest_labels,
    numbered,
    ridge_probe,
)


def _items(n: int, d: int, classes: int = 3, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return draw.normal(size=(n, d)) * 2 + 1 + apart * draw.normal(size=(classes, d))[labels], labels


@pytest.mark.parametrize("shape", [(20, 6), (12, 30)], ids=["more items", "more channels"])
def test_the_ridge_probe_is_what_leaving_each_item_out_gives(shape: tuple[int, int]) -> None:
    vectors, labels = _items(*shape)
    found = ridge_probe(vectors, labels, (0.3,))
    x = (vectors - vectors.mean(0)) / vectors.std(0)
    smaller = x @ x.T if shape[0] <= shape[1] else x.T @ x
    eigenvalues = np.linalg.eigvalsh(smaller)
    penalty = 0.3 * eigenvalues[eigenvalues > 1e-9].mean()
    y = np.eye(3)[labels]
    for k in range(len(x)):
        others = np.arange(len(x)) != k
        refitted = Ridge(alpha=penalty, solver="svd").fit(x[others], y[others])
        np.testing.assert_allclose(found.response[k], refitted.predict(x[k : k + 1])[0], atol=1e-8)
        level = found.response[k] - y[others].mean(0) + y.mean(0)
        assert found.predicted[k] == level.argmax()


def test_of_all_penalties_the_one_with_the_smallest_left_out_error_is_taken() -> None:
    vectors, labels = _items(30, 8)
    y = np.eye(3)[labels]
    errors = {p: ((ridge_probe(vectors, labels, (p,)).response - y) ** 2).sum() for p in (1e-3, 1.0, 1e3)}
    assert ridge_probe(vectors, labels, tuple(errors)).penalty == min(errors, key=errors.__getitem__)


def test_labels_that_stand_in_one_channel_are_read_and_random_ones_are_not() -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 200)
    vectors = draw.normal(size=(200, 10))
    assert abs((ridge_probe(vectors, labels).predicted == labels).mean() - 0.5) < 0.12
    vectors[:, 4] = labels
    assert (ridge_probe(vectors, labels).predicted == labels).mean() == 1.0


def test_a_channel_that_does_not_vary_and_equal_vectors_do_no_harm() -> None:
    labels = np.asarray([0, 1, 0, 1, 1])
    found = ridge_probe(np.full((5, 3), 7.0), labels)
    np.testing.assert_allclose(found.response.sum(1), 1.0)
    # without the item the mean is what is left of its label: the majority, 1, unless one of the ones is left out
    np.testing.assert_allclose(found.response[:, 1], [3 / 4, 2 / 4, 3 / 4, 2 / 4, 2 / 4])


def test_vectors_that_say_nothing_are_given_one_label_and_not_each_the_other_one() -> None:
    labels = (np.arange(21) + 1) % 2  # 11 ones; without a one there are as many zeros
    np.testing.assert_array_equal(ridge_probe(np.eye(21), labels, (1e6,)).predicted, 1)


def test_nearest_labels_by_hand() -> None:
    angles = np.asarray([0.0, 0.1, 0.2, 2.0, 2.1, 2.2])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray([1, 50, 1, 9, 1, 1])[:, None]
    labels = np.asarray([0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(nearest_labels(vectors, labels, 1), [0, 0, 0, 1, 1, 1])
    # with two neighbours item 0 sees labels 0 (cosine of .1) and 1 (cosine of .2): the nearer decides
    np.testing.assert_array_equal(nearest_labels(vectors, labels, 2)[:1], [0])


def test_the_few_shot_probe_is_scikit_learns_on_the_shots() -> None:
    vectors, labels = _items(30, 5, apart=2.0)
    shots = draw_shots(labels, 4, 0)
    expected = LogisticRegression(max_iter=100).fit(vectors[shots], labels[shots]).predict(vectors)
    np.testing.assert_array_equal(few_shot_labels(vectors, labels, shots), expected)


def test_shots_are_the_same_number_of_each_label_and_half_of_a_rare_one() -> None:
    labels = np.repeat([0, 1, 2, 3], [20, 9, 5, 1])
    shots = draw_shots(labels, 8, 3)
    np.testing.assert_array_equal(np.bincount(labels[shots], minlength=4), [8, 8, 2, 0])
    np.testing.assert_array_equal(shots, draw_shots(labels, 8, 3))
    assert set(shots) != set(draw_shots(labels, 8, 4))


def test_clusters_far_apart_are_found() -> None:
    vectors, labels = _items(60, 4, apart=50.0)
    found = cluster_numbers(vectors, 3)
    assert {len(set(found[labels == k])) for k in range(3)} == {1}
    assert len(set(found)) == 3


def test_labels_of_any_kind_are_numbered_in_order() -> None:
    np.testing.assert_array_equal(numbered(np.asarray(["b", "a", "b", "z"])), [1, 0, 1, 2])


def test_what_cannot_be_probed_is_refused_with_what_was_found() -> None:
    vectors, labels = _items(9, 4)
    vectors[2, 1] = np.nan
    for probe in (ridge_probe, nearest_labels):
        with pytest.raises(BadInput, match="1 of 9 vectors are not finite"):
            probe(vectors, labels)
        with pytest.raises(BadInput, match="9 items of 1 labels"):
            probe(vectors, np.zeros(9, np.int64))
    with pytest.raises(BadInput, match="cannot be put into 3 clusters"):
        cluster_numbers(vectors, 3)
    with pytest.raises(BadInput, match="at least one item"):
        few_shot_labels(vectors, labels, np.zeros(0, np.int64))
