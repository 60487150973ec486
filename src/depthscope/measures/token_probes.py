"""What can be read off a token's vector by a linear map: least squares with a penalty, judged on other documents.

Inputs are standardised over the training items: without that, a few massive channels decide everything.
"""

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

PENALTIES = tuple(10.0**power for power in range(-3, 6))
"""Penalties to choose from, in units of the mean eigenvalue."""


def ridge_predictions(
    train: Num[np.ndarray, "item d"],
    targets: Num[np.ndarray, "item target"],
    test: Num[np.ndarray, "other_item d"],
) -> Float[np.ndarray, "other_item target"]:
    """Predictions for the test items by ridge regression with a free intercept.

    The penalty has the smallest squared error of left-out training items, exactly: (y_i - (H y)_i) / (1 - H_ii)
    (Allen), summed over targets. Channels that do not vary in training count as 0: equal vectors predict the mean.

    Raises:
        BadInput: for fewer than 3 training items, or vectors that are not finite.
    """
    if len(train) < 3 or not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise BadInput(f"{len(train)} training items; a probe needs 3 or more, all of them finite")
    mean, spread = train.mean(0), train.std(0)
    still = spread <= 1e-6 * np.maximum(np.abs(train).max(0), 1e-300)
    scale = np.where(still, 1.0, spread)
    x, z = (np.where(still, 0.0, (v - mean) / scale).astype(np.float64) for v in (train, test))
    middle = targets.mean(0)
    y = targets - middle
    left, sizes, right = np.linalg.svd(x, full_matrices=False)
    moment = left.T @ y
    best, least = np.zeros((len(test), targets.shape[1])) + middle, np.inf
    unit = max(float((sizes**2).mean()), 1e-300)
    for penalty in PENALTIES:
        shrink = sizes**2 / (sizes**2 + penalty * unit)
        leverage = 1 / len(y) + (left**2) @ shrink
        error = float(
            (((y - left @ (shrink[:, None] * moment)) / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2).sum()
        )
        if error < least:
            inverse = sizes / (sizes**2 + penalty * unit)
            least, best = error, (z @ right.T) @ (inverse[:, None] * moment) + middle
    return best


def row_cosines(a: Num[np.ndarray, "item d"], b: Num[np.ndarray, "item d"]) -> Float[np.ndarray, " item"]:
    """Cosine of each pair of rows, NaN where one has no length."""
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(size > 0, (a * b).sum(1) / np.where(size > 0, size, 1.0), np.nan)


LAWS = (Law(ridge_predictions, ()), Law(row_cosines, ("symmetric",)))
