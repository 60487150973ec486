"""Early exits: where a rule would stop, what that costs, and how loose the rule may be. numpy only, never torch.

A rule looks at a score at some checks in rising depth and stops at the first one that is high enough. Exits are numbers
of checks, 0 .. n_checks - 1; n_checks stands for "never stopped".
Sources: Schuster et al. 2022 (arXiv 2207.07061, CALM: scores, calibration); Zhou et al. 2020 (arXiv 2006.04152).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

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
    Law(loosest, ("non_negative",), {"target": 0.5}),
)
