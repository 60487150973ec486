"""Softmax probes: multinomial logistic regression with balanced classes, a chosen penalty, and F1 scores.

Labels are integers 0..classes-1. Vectors are standardised with the mean and spread of the training items. Source:
Sekiguchi, Ishigaki and Maeda (linear probes on states and their predictable and novel parts); Pedregosa et al. 2011
for the weights.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

PENALTIES = tuple(10.0**power for power in range(2, -5, -1))
"""Penalties on the weights, falling: each fit starts from the one before it."""
PATIENCE = 2
"""Penalties in a row that may be worse than the best one before the path ends."""


class SoftmaxProbe(NamedTuple):
    """What a probe says of items it was not trained on.

    Args:
        predicted: the most likely class of each item asked about. penalty: the chosen one. loss: weighted cross-entropy
            of the validation items, in nats, at that penalty. weights: [d + 1, class], of standardised vectors, the
            bias last.
    """

    predicted: Int[np.ndarray, " item"]
    penalty: float
    loss: float
    weights: Float[np.ndarray, "row class"]


def class_weights(labels: Int[np.ndarray, " item"], classes: int) -> Float[np.ndarray, " class"]:
    """Balanced weights N / (C n_c) of the C classes that occur; 0 for a class that does not. Mean over items 1."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    there = counts > 0
    return np.divide(len(labels) / max(1, there.sum()), counts, out=np.zeros(classes), where=there)


def softmax_probe(
    train: Float[np.ndarray, "item d"],
    labels: Int[np.ndarray, " item"],
    validation: Float[np.ndarray, "other d"],
    validation_labels: Int[np.ndarray, " other"],
    asked: Float[np.ndarray, "third d"],
    penalties: tuple[float, ...] = PENALTIES,
    steps: int = 1000,
) -> SoftmaxProbe:
    """Fit on `train`, choose the penalty on `validation`, predict `asked`.

    Minimises mean_i w(y_i) CE_i + penalty / 2 |W|^2 by L-BFGS (at most `steps` steps), the bias not penalised, w
    balanced by the training counts. Penalties are tried from the largest on, each fit starting from the last, until
    PATIENCE of them in a row have a larger weighted loss on the validation items than the best.

    Raises:
        BadInput: for vectors that are not finite, or a training set of one class.
    """
    if len(np.unique(labels)) < 2:
        raise BadInput(f"all {len(labels)} training items have one class; a probe needs two or more")
    classes = int(max(labels.max(), validation_labels.max(initial=0))) + 1
    x, other, third = _standardised(train, validation, asked)
    weights = class_weights(labels, classes)
    found = np.zeros((x.shape[1] + 1, classes), np.float32)
    best = SoftmaxProbe(np.zeros(len(third), np.int64), np.nan, np.inf, found)
    worse = 0
    for penalty in sorted(penalties, reverse=True):
        found = _fitted(x, labels, weights[labels], penalty, found, steps)
        loss = _loss(_logits(other, found), validation_labels, weights[validation_labels])
        if loss < best.loss:
            best = SoftmaxProbe(_logits(third, found).argmax(1), penalty, loss, found)
        worse = 0 if loss <= best.loss else worse + 1
        if worse == PATIENCE:
            break
    return best


def f1_counts(
    predicted: Int[np.ndarray, " item"], labels: Int[np.ndarray, " item"], classes: int
) -> Int[np.ndarray, "item three class"]:
    """Of each item and class: 1 where both say it, where the prediction says it, where the label does."""
    said, true = (np.eye(classes, dtype=np.int64)[v] for v in (predicted, labels))
    return np.stack([said * true, said, true], 1)


def macro_f1(counts: Num[np.ndarray, "*draws three class"]) -> Float[np.ndarray, "*draws"]:
    """Mean over classes of 2 both / (predicted + true), from sums of `f1_counts`. Range 0..1.

    A class that is neither predicted nor true in a draw is left out of its mean; NaN where none is left.
    """
    both, said, true = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    size = said + true
    score = np.divide(2 * both, size, out=np.zeros(size.shape), where=size > 0)
    there = (size > 0).sum(-1)
    return np.divide(score.sum(-1), there, out=np.full(there.shape, np.nan), where=there > 0)


def micro_f1(counts: Num[np.ndarray, "*draws three class"]) -> Float[np.ndarray, "*draws"]:
    """2 sum both / sum (predicted + true). Each item has one class and one prediction, so this is the accuracy."""
    both, said, true = np.moveaxis(np.asarray(counts, np.float64), -2, 0).sum(-1)
    size = np.asarray(said + true)
    return np.divide(2 * both, size, out=np.full(size.shape, np.nan), where=size > 0)


def _standardised(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Every set with the channels' mean and spread over the training items; channels that do not vary become 0."""
    if not np.isfinite(train).all():
        raise BadInput(f"{int((~np.isfinite(train).all(1)).sum())} of {len(train)} vectors are not finite")
    middle, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    still = spread <= 1e-9 * np.maximum(np.abs(train).max(0), 1e-300)
    scale = np.where(still, 0.0, 1 / np.where(still, 1.0, spread))
    return [((each - middle) * scale).astype(np.float32) for each in (train, *others)]


def _fitted(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, penalty: float, start: np.ndarray, steps: int
) -> np.ndarray:
    from scipy.optimize import minimize

    target = np.eye(start.shape[1], dtype=np.float32)[labels]
    share = (weights / len(labels)).astype(np.float32)[:, None]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(start.shape).astype(np.float32)
        logits = _logits(x, w)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        slope = (p - target) * share
        gradient = np.concatenate([x.T @ slope + np.float32(penalty) * w[:-1], slope.sum(0)[None]])
        value = _loss(logits, labels, weights) + penalty / 2 * float((w[:-1].astype(np.float64) ** 2).sum())
        return value, gradient.astype(np.float64).ravel()

    found = minimize(
        objective, start.astype(np.float64).ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": steps, "gtol": 1e-5, "ftol": 1e-8, "maxcor": 10},
    )  # fmt: skip
    return found.x.reshape(start.shape).astype(np.float32)


def _logits(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return x @ weights[:-1] + weights[-1]


def _loss(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Mean weighted cross-entropy, in nats."""
    if not len(labels):
        return np.inf
    z = logits.astype(np.float64)
    z = z - z.max(1, keepdims=True)
    log_p = z[np.arange(len(z)), labels] - np.log(np.exp(z).sum(1))
    return float(-(weights * log_p).mean())


LAWS = (
    Law(class_weights, ("non_negative",), {"classes": 9}),
    Law(softmax_probe, (), {"steps": 5}),
    Law(f1_counts, (), {"classes": 9}),
    Law(macro_f1, ()),
    Law(micro_f1, ()),
)
