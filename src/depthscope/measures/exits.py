"""Early exits: where a rule would stop, what that costs, and how loose the rule may be. numpy only, never torch.

A rule looks at a score at some checks in rising depth and stops at the first one that is high enough. Exits are numbers
of checks, 0 .. n_checks - 1; n_checks stands for "never stopped".
Sources: Schuster et al. 2022 (arXiv 2207.07061, CALM: scores, calibration); Zhou et al. 2020 (arXiv 2006.04152).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from depthscope.measures.laws import Law


def run_length(ids: Int[np.ndarray, "item check"]) -> Int[np.ndarray, "item check"]:
    """How many checks in a row, this one included, show the same id; 1 at the first check. int64."""
    found = np.ones(ids.shape, np.int64)
    for check in range(1, ids.shape[1]):
        same = ids[:, check] == ids[:, check - 1]
        found[:, check] = np.where(same, found[:, check - 1] + 1, 1)
    return found


def first_check(
    score: Num[np.ndarray, "item check"], thresholds: Num[np.ndarray, " threshold"]
) -> Int[np.ndarray, "item threshold"]:
    """The first check whose score is at least each threshold; the number of checks where there is none. int64."""
    hit = score[:, :, None] >= thresholds
    return np.where(hit.any(1), hit.argmax(1), score.shape[1])


def loosest(low: Float[np.ndarray, " threshold"], target: float) -> int:
    """How many thresholds, the strictest first, may be walked before one's lower bound of agreement misses the target.

    The last one walked is the loosest that is safe: later ones are not looked at, even if they pass by luck, so the
    bound keeps its meaning though many thresholds were tried. 0: not even the strictest. NaN misses.
    Source: fixed-sequence testing, Angelopoulos et al. 2021 (arXiv 2110.01052, learn then test).
    """
    missed = np.flatnonzero(~(low >= target))
    return int(missed[0]) if len(missed) else len(low)


def logistic_probability(
    train: Float[np.ndarray, "item feature"],
    right: Bool[np.ndarray, " item"],
    asked: Float[np.ndarray, "other feature"],
    penalty: float = 1.0,
) -> Float[np.ndarray, " other"]:
    """Probability of being right by a logistic regression on standardised features, at items it was not fitted on.

    Minimises sum_i log loss + penalty / 2 |w|^2 by Newton's method, the bias all but free; features are standardised by
    the fitted items, so neither their unit nor their zero matters. 0.5 everywhere without items to fit on.
    Source: the trained classifier of Schuster et al. 2022 (arXiv 2207.07061), here on scores of a decoded state.
    """
    if not len(train):
        return np.full(len(asked), 0.5)
    centre, spread = train.mean(0), train.std(0)
    spread = np.where(spread > 1e-12 * np.abs(train).max(initial=1e-300), spread, np.inf)
    x, other = (np.column_stack([(v - centre) / spread, np.ones(len(v))]) for v in (train, asked))
    shrink = np.append(np.full(train.shape[1], penalty), 1e-9 * len(train) + 1e-6)
    weights = np.zeros(x.shape[1])
    for _ in range(60):
        p = _sigmoid(x @ weights)
        slope = x.T @ (p - right) + shrink * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + np.diag(shrink)
        step = np.linalg.solve(curve, slope)
        weights -= step * min(1.0, 4 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    return _sigmoid(other @ weights)


def _sigmoid(x: Float[np.ndarray, " item"]) -> Float[np.ndarray, " item"]:
    return 0.5 * (1 + np.tanh(x / 2))


@dataclass(frozen=True)
class ExitCost:
    """Floating point operations of one token, 2 a multiply-add; attention over earlier tokens is left out.

    Args:
        blocks: of each block. head: of the unembedding, 2 d_model d_vocab. lens: of a lens's matrix, 2 d_model^2, or 0.
        check: of looking once. decodes: True where looking decodes, so that the check that stops is the output.
    """

    blocks: Float[np.ndarray, " layer"]
    head: float
    lens: float
    check: float
    decodes: bool

    def saving(
        self, exits: Int[np.ndarray, "..."], checks: Int[np.ndarray, " check"]
    ) -> Float[np.ndarray, "..."]:
        """Share of the model's operations that is saved: negative where the checks cost more than the blocks.

        1 - cost / (all blocks + head). An exit after n failed checks at state s costs the blocks below s, n + 1 checks
        and, where a check does not decode, the lens and the head. Never stopping costs all blocks, checks and the head.
        """
        below = np.concatenate([[0.0], np.cumsum(self.blocks)])
        states = np.append(checks, len(self.blocks))
        stopped = exits < len(checks)
        looked = np.where(stopped, exits + 1, len(checks)) * self.check
        early = 0.0 if self.decodes else self.head + self.lens
        cost = below[states[exits]] + looked + np.where(stopped, early, self.head)
        return 1 - cost / (below[-1] + self.head)


LAWS = (
    Law(run_length, ("non_negative",)),
    Law(first_check, ("non_negative", "shift_free", "scale_free")),
    Law(logistic_probability, ("non_negative", "bounded_by_one", "shift_free", "scale_free")),
    Law(loosest, ("non_negative",), {"target": 0.5}),
)
