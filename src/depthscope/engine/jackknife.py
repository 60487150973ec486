"""Jackknife: intervals of what no mean over units gives, from leaving out groups of units one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

GROUPS = 8


def without_groups(units: Sequence[str], most: int = GROUPS) -> list[np.ndarray]:
    """For each group of units, which items are left without it; units go to groups in turn, by first appearance.

    Fewer than 3 units make no groups.
    """
    names = list(dict.fromkeys(units))
    count = min(most, len(names))
    if count < 3:
        return []
    group = {name: k % count for k, name in enumerate(names)}
    member = np.array([group[name] for name in units])
    return [member != k for k in range(count)]


def jackknife(
    value: np.ndarray, without: Sequence[np.ndarray], level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end around a value from its values without each group: delete-a-group, Student's t.

    NaN with fewer than 3 groups. Source: Efron and Tibshirani 1993, chapter 11; Kott 2001 for groups.
    """
    groups = len(without)
    if groups < 3:
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    from scipy.stats import t

    left = np.stack(without)
    spread = np.sqrt((groups - 1) / groups * ((left - left.mean(0)) ** 2).sum(0))
    half = float(t.ppf((1 + level) / 2, groups - 1)) * spread
    return np.asarray(value - half), np.asarray(value + half)


def jackknifed(
    measure: Callable[[np.ndarray], np.ndarray], units: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, lower and upper end of a measure of items, given as which of them it may look at."""
    value = measure(np.ones(len(units), bool))
    return value, *jackknife(value, [measure(kept) for kept in without_groups(units)])
