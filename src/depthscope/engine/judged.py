"""Judged: where a curve of scores is best, how sure that is, and what it gains over the last state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Num

from depthscope.engine.task_scores import Scored
from depthscope.measures.statistics import Interval

LEVEL = 0.95


@dataclass(frozen=True)
class Judged:
    """One score of one task in one mode.

    Args:
        score: of each state, with its interval. best: the state with the highest score, and the ends of the middle 95 %
            of the best states of draws. best_share: how often each state is the best of a draw. as_good: states whose
            paired difference from the best has an interval that holds 0; the best itself among them.
        gain: best state before the last minus the last state, chosen on one half of the items and scored on the other,
            both ways round, so choosing brings no luck. gain_seen: the same chosen and scored on all items.
        n: items with a value.
    """

    score: Interval
    best: Interval
    best_share: Float[np.ndarray, " state"]
    as_good: Bool[np.ndarray, " state"]
    gain: Interval
    gain_seen: Interval
    n: int


def judged(scored: Scored, draws: int = 1000, seed: int = 0) -> Judged:
    """Judge a score by draws of its items, the same for all states. NaN scores are never the best."""
    value, drawn = scored.score(), scored.drawn(draws, seed)
    best, bests = int(_best(value[None])[0]), _best(drawn)
    low, high = _ends(drawn)
    below, above = _ends(bests.astype(np.float64)[:, None])
    shares = np.bincount(bests[bests >= 0], minlength=len(value)) / max(1, int((bests >= 0).sum()))
    behind_low, behind_high = _ends(drawn[:, [best]] - drawn)
    return Judged(
        Interval(value, low, high).holding(),
        Interval(np.asarray(_or_nan(best)), below[0], above[0]).holding(),
        shares,
        (behind_low <= 0) & (behind_high >= 0),
        _halves(scored, draws, seed),
        _seen(value, drawn),
        int(np.isfinite(scored.values).any(0).sum()),
    )


def _or_nan(best: int) -> float:
    return float(best) if best >= 0 else float("nan")


def _best(scores: np.ndarray) -> np.ndarray:
    """The state with the highest score of each draw, the earliest of equal ones; -1 where none has a score."""
    filled = np.where(np.isfinite(scores), scores, -np.inf)
    return np.where(np.isfinite(scores).any(1), filled.argmax(1), -1)


def _seen(value: np.ndarray, drawn: np.ndarray) -> Interval:
    best = _best(value[None, :-1])[0]
    low, high = _ends((drawn[:, best] - drawn[:, -1])[:, None])
    return Interval(np.asarray(value[best] - value[-1]), low[0], high[0]).holding()


def _halves(scored: Scored, draws: int, seed: int) -> Interval:
    """The gain where the half that chooses is not the half that judges."""
    n = len(scored.gold)
    generator = np.random.default_rng(seed + 1)
    half = generator.permutation(n) < n // 2
    weights = generator.multinomial(n, np.full(n, 1 / n), size=draws)
    value = _crossed(scored, np.ones((1, n), np.int64), half)[0]
    drawn = _crossed(scored, weights, half)
    fine = drawn[np.isfinite(drawn)]
    low, high = _ends((drawn + (value - fine.mean() if len(fine) else 0.0))[:, None])
    return Interval(np.asarray(value), low[0], high[0]).holding()


def _crossed(scored: Scored, weights: Num[np.ndarray, "draw item"], half: np.ndarray) -> np.ndarray:
    sides = [scored.weighted(weights * side) for side in (half, ~half)]
    gains = []
    for chooser, judge in (sides, sides[::-1]):
        best = np.maximum(_best(chooser[:, :-1]), 0)
        gains.append(np.take_along_axis(judge, best[:, None], 1)[:, 0] - judge[:, -1])
    return np.mean(gains, axis=0)


def _ends(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of each column without its NaN; NaN where nothing is left."""
    low, high = (np.full(drawn.shape[1], np.nan) for _ in range(2))
    for k, column in enumerate(drawn.T):
        fine = column[np.isfinite(column)]
        if len(fine):
            low[k], high[k] = np.quantile(fine, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return low, high
