"""Which heads a causal test takes: the top of a score, and controls that differ from them in the score alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from depthscope.errors import BadInput

Heads = tuple[tuple[int, int], ...]
"""(layer, head) pairs, 0-based."""


def top(score: np.ndarray, k: int, without: Iterable[tuple[int, int]] = ()) -> Heads:
    """The k heads of the highest score, highest first; of equal ones the first; heads without a score are left out.

    Args:
        score: [layer head], NaN where there is none. without: heads that may not be chosen.
    """
    left_out = set(without)
    order = np.argsort(-np.nan_to_num(score, nan=-np.inf), axis=None, kind="stable")
    cells = [tuple(int(i) for i in np.unravel_index(cell, score.shape)) for cell in order]
    known = [(layer, head) for layer, head in cells if np.isfinite(score[layer, head])]
    return tuple(cell for cell in known if cell not in left_out)[:k]


def drawn(score: np.ndarray, k: int, without: Iterable[tuple[int, int]], seed: Sequence[int]) -> Heads:
    """K heads at random among those that have a score and are not left out; fewer where fewer are left."""
    left_out = set(without)
    pool = [(int(a), int(b)) for a, b in np.argwhere(np.isfinite(score))]
    free = [cell for cell in pool if cell not in left_out]
    order = np.random.default_rng(list(seed)).permutation(len(free))[:k]
    return tuple(free[i] for i in sorted(order))


def matched(
    heads: Heads,
    allowed: np.ndarray,
    size: np.ndarray,
    seed: Sequence[int] = (0,),
    near: int = 3,
) -> Heads:
    """For each head another one of its own layer and of like size, without using one twice.

    Of the allowed heads that are free in the layer one of the `near` nearest in size is drawn; where the layer has none
    left, of the nearest layer that has.

    Args:
        allowed: [layer head], heads that may be taken; the given ones never are. size: what to match besides the layer,
            such as the mean length of a head's write, [layer head].

    Raises:
        BadInput: when fewer heads are allowed than are to be matched.
    """
    free = allowed.astype(bool).copy()
    for cell in heads:
        free[cell] = False
    if int(free.sum()) < len(heads):
        raise BadInput(
            f"{len(heads)} heads are to be matched, {int(free.sum())} others are allowed; ablate fewer"
        )
    generator = np.random.default_rng(list(seed))
    found: list[tuple[int, int]] = []
    for layer, head in heads:
        layers = np.flatnonzero(free.any(1))
        at = int(layers[np.abs(layers - layer).argmin()])
        inside = np.flatnonzero(free[at])
        gap = np.abs(np.log(np.maximum(size[at, inside], 1e-12) / max(float(size[layer, head]), 1e-12)))
        best = inside[np.argsort(gap, kind="stable")[:near]]
        taken = int(best[generator.integers(len(best))])
        free[at, taken] = False
        found.append((at, taken))
    return tuple(found)


def possible(sizes: Sequence[int], heads: int, share: float) -> tuple[int, ...]:
    """Those of several numbers of heads that are no more than a share of all heads; 1 always is."""
    return tuple(k for k in sizes if k <= max(1, int(share * heads)))
