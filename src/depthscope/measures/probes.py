"""Probes: what can be read off vectors of labelled items, by closed forms where there are any.

Labels are integers 0..classes-1. Every probe returns the predicted label of each item, made without that item's label.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

LAMBDAS = tuple(10.0**power for power in range(-4, 5))
"""Penalties of the ridge probe, in units of the mean eigenvalue."""


class Ridge(NamedTuple):
    """What the ridge probe says of each item when that item is left out.

    Args:
        predicted: label with the largest response, where the share of each label among the others is put back to its
            share among all: without its own item a label is rarer, and of vectors that say nothing every item would be
            given another label than its own. response: [item, class]. penalty: the chosen lambda, of `LAMBDAS`.
    """

    predicted: Int[np.ndarray, " item"]
    response: Float[np.ndarray, "item class"]
    penalty: float


def ridge_probe(
    vectors: Float[np.ndarray, "item d"],
    labels: Int[np.ndarray, " item"],
    penalties: tuple[float, ...] = LAMBDAS,
) -> Ridge:
    """Least squares onto one-hot labels with a penalty on the weights, each item left out in turn.

    Channels are standardised over all items (no label is used). With the hat matrix H of the penalised fit and its
    free intercept, the response of item i when it is left out is y_i - (y_i - (H y)_i) / (1 - H_ii), exactly (Allen);
    one eigendecomposition of the smaller Gram matrix serves all penalties. The penalty with the smallest squared error
    of the left-out responses is taken, so it is chosen on the same items that it is judged by.

    Raises:
        BadInput: for vectors that are not finite, fewer than 3 items, or fewer than two labels.
    """
    x, classes = _checked(vectors, labels)
    y = np.eye(classes)[labels]
    basis, eigenvalues = _left_basis(_standardised(x))
    centred = y - y.mean(0)
    moment = basis.T @ centred
    best = Ridge(labels, y, np.nan)
    least = np.inf
    for penalty in penalties:
        shrink = eigenvalues / (eigenvalues + penalty * max(float(eigenvalues.mean()), 1e-300))
        fitted = basis @ (shrink[:, None] * moment) + y.mean(0)
        leverage = 1 / len(y) + (basis**2) @ shrink
        response = y - (y - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]
        error = float(((response - y) ** 2).sum())
        if error < least:
            # share among all minus share among the others: (y - mean) / (n - 1)
            level = response + centred / (len(y) - 1)
            least, best = error, Ridge(level.argmax(1), response, penalty)
    return best


def nearest_labels(
    vectors: Float[np.ndarray, "item d"], labels: Int[np.ndarray, " item"], k: int = 5
) -> Int[np.ndarray, " item"]:
    """The label that most of an item's k nearest other items have (by cosine); of a tie, that of the larger cosines.

    Raises:
        BadInput: for vectors that are not finite, fewer than 3 items, or fewer than two labels.
    """
    x, classes = _checked(vectors, labels)
    k = min(k, len(x) - 1)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    near = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    votes = np.zeros((len(x), classes))
    rows = np.arange(len(x))[:, None]
    # a cosine counts far less than a vote: it decides ties only
    np.add.at(votes, (rows, labels[near]), 1 + np.take_along_axis(cosine, near, 1) / (4 * k))
    return votes.argmax(1)


def few_shot_labels(
    vectors: Float[np.ndarray, "item d"], labels: Int[np.ndarray, " item"], shots: Int[np.ndarray, " shot"]
) -> Int[np.ndarray, " item"]:
    """Labels by a logistic regression on the items in `shots` (L2, C = 1, at most 100 steps, vectors as they are).

    The probe of MTEB's classification tasks (Muennighoff et al. 2023). Predictions of the shots are not to be counted.
    Where the shots have only one label, that one.

    Raises:
        BadInput: for vectors that are not finite, or no shots.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if not len(shots):
        raise BadInput("a few-shot probe needs at least one item to learn from")
    if len(np.unique(labels[shots])) < 2:
        return np.full(len(labels), labels[shots[0]])
    x, _ = _checked(vectors, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # many labels of few examples each
        fitted = LogisticRegression(max_iter=100).fit(x[shots], labels[shots])
    return np.asarray(fitted.predict(x), labels.dtype)


def draw_shots(labels: Int[np.ndarray, " item"], shots: int, seed: int) -> Int[np.ndarray, " shot"]:
    """Items to learn from: `shots` of each label at random, of a label with too few half of its items.

    So every label that has two items or more keeps one to be tested on. A label with one item gives none.
    """
    generator = np.random.default_rng(seed)
    found: list[int] = []
    for label in np.unique(labels):
        items = generator.permutation(np.flatnonzero(labels == label))
        taken = shots if len(items) > shots else len(items) // 2
        found += items[:taken].tolist()
    return np.sort(np.asarray(found, np.int64))


def cluster_numbers(
    vectors: Float[np.ndarray, "item d"], clusters: int, seed: int = 0
) -> Int[np.ndarray, " item"]:
    """The cluster of each item by mini-batch k-means (batches of 500), as MTEB's clustering tasks do.

    Raises:
        BadInput: for vectors that are not finite, or fewer items than clusters.
    """
    import warnings

    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    if not np.isfinite(vectors).all() or len(vectors) < clusters:
        raise BadInput(f"{len(vectors)} vectors, finite or not, cannot be put into {clusters} clusters")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different vectors than clusters
        fitted = MiniBatchKMeans(clusters, batch_size=500, n_init="auto", random_state=seed)
        return np.asarray(fitted.fit_predict(vectors.astype(np.float32)), np.int64)


def numbered(labels: Shaped[np.ndarray, " item"]) -> Int[np.ndarray, " item"]:
    """Labels of any kind as integers 0..classes-1, in sorted order."""
    return np.unique(labels, return_inverse=True)[1]


def _checked(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
    classes = int(labels.max()) + 1 if len(labels) else 0
    if len(labels) < 3 or len(np.unique(labels)) < 2:
        raise BadInput(
            f"{len(labels)} items of {len(np.unique(labels))} labels; a probe needs 3 items and 2 labels"
        )
    if not np.isfinite(vectors).all():
        raise BadInput(
            f"{int((~np.isfinite(vectors).all(1)).sum())} of {len(vectors)} vectors are not finite"
        )
    return vectors.astype(np.float64), classes


def _standardised(x: np.ndarray) -> np.ndarray:
    """Channels with mean 0 and variance 1; channels that do not vary stay 0."""
    centred = x - x.mean(0)
    spread = centred.std(0)
    still = spread <= 1e-9 * np.maximum(np.abs(x).max(0), 1e-300)
    return np.where(still, 0.0, centred / np.where(still, 1.0, spread))


def _left_basis(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal columns that span the columns of x, and the eigenvalues of x xᵀ that belong to them."""
    n, d = x.shape
    eigenvalues, vectors = np.linalg.eigh(x @ x.T if n <= d else x.T @ x)
    kept = eigenvalues > max(n, d) * np.finfo(np.float64).eps * max(float(eigenvalues[-1]), 1e-300)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    basis = vectors if n <= d else (x @ vectors) / np.sqrt(eigenvalues)
    return (basis, eigenvalues) if kept.any() else (np.zeros((n, 1)), np.zeros(1))


LAWS = (
    Law(ridge_probe, ()),
    Law(nearest_labels, ()),
    Law(few_shot_labels, ()),
    Law(draw_shots, ()),
    Law(cluster_numbers, ()),
    Law(numbered, ()),
)
