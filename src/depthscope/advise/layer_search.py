"""Finding a good state without scoring them all: a grid, halved on ever more items, then the neighbours of the best.

Nothing here knows a model: `Look` says what some states score on the first n items, and how those scores vary over
draws of items that all states share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from depthscope.errors import BadInput, NonFinite

LEVEL = 0.95
STEPS = (2, 1)
"""How far from the best two the neighbours stand that are tried, one distance after the other."""


@dataclass(frozen=True)
class Seen:
    """Scores of some states on the same items.

    Args:
        score: higher is better, NaN where a state has none. drawn: the scores over draws of the items, the same draws
            for all states.
    """

    states: tuple[int, ...]
    score: Float[np.ndarray, " state"]
    drawn: Float[np.ndarray, "draw state"]

    def of(self, state: int) -> float:
        """The score of one state."""
        return float(self.score[self.states.index(state)])

    def gap(self, better: int, other: int) -> tuple[float, float, float]:
        """Score of one state minus another's: value and the ends of its paired 95 % interval."""
        a, b = self.states.index(better), self.states.index(other)
        low, high = ends(self.drawn[:, [a]] - self.drawn[:, [b]])
        return float(self.score[a] - self.score[b]), float(low[0]), float(high[0])

    def error(self, better: int, other: int) -> float:
        """Standard error of the difference of two states: its standard deviation over the draws."""
        a, b = self.states.index(better), self.states.index(other)
        return float(np.nanstd(self.drawn[:, a] - self.drawn[:, b]))

    def ranked(self) -> tuple[int, ...]:
        """States from best to worst; of equals the earlier first, those without a score last."""
        order = np.lexsort([np.asarray(self.states), -np.nan_to_num(self.score, nan=-np.inf)])
        return tuple(self.states[k] for k in order)


def ends(drawn: Float[np.ndarray, "draw state"]) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of each state over draws; NaN where no draw has a score."""
    none = ~np.isfinite(drawn).any(0)
    low, high = np.nanquantile(np.where(none, 0.0, drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.where(none, np.nan, low), np.where(none, np.nan, high)


Look = Callable[[Sequence[int], int], Seen]
"""What some states score on the first n items."""


@dataclass(frozen=True)
class Round:
    """One round of halving: what was seen on `items` items, and the states that went."""

    items: int
    seen: Seen
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What a search saw.

    Args:
        rounds: on fewer items than all. final: the states scored on all items. looked: every state scored at all.
        best: the highest score of `final`. cheapest: the first state within one standard error of it.
    """

    rounds: tuple[Round, ...]
    final: Seen
    looked: tuple[int, ...]
    best: int
    cheapest: int


def grid(depth: int, stride: int = 4) -> tuple[int, ...]:
    """States 0, stride, 2 stride ... and the last one.

    Raises:
        BadInput: for a stride below 1.
    """
    if stride < 1:
        raise BadInput(f"stride {stride} is no distance; 1 scores every state, 4 is the default")
    return tuple(sorted({*range(0, depth + 1, stride), depth}))


def sizes(items: int, first: int = 128) -> tuple[int, ...]:
    """Numbers of items of the rounds: `first`, doubled while below all, then all."""
    found = [first]
    while found[-1] < items:
        found.append(2 * found[-1])
    return (*(n for n in found if n < items), items)


def search(
    depth: int, look: Look, *, items: int, first: int = 128, stride: int = 4, share: float = 0.6
) -> Found:
    """Halve a grid of states over growing numbers of items, then climb from the best two to their neighbours.

    After each round the worse half goes, except states whose difference from the leader cannot be told from 0 (paired
    bootstrap). Neighbours 2 and then 1 away from the best two so far are scored on all items, the better one's first,
    as long as no more than `share` of all states were scored. Source: sequential halving (Karnin et al. 2013) with
    common items.

    Args:
        look: scores of states on the first n of `items`; equal calls give equal answers.

    Raises:
        BadInput: for a share that leaves nothing. NonFinite: when no state has a score.
    """
    if not 0 < share <= 1:
        raise BadInput(f"share {share} of the states is above 0 and at most 1")
    alive, rounds, looked = grid(depth, stride), list[Round](), set[int]()
    *early, last = sizes(items, first)
    for n in early:
        seen = look(alive, n)
        looked |= set(alive)
        dropped = losers(seen)
        rounds.append(Round(n, seen, dropped))
        alive = tuple(s for s in alive if s not in dropped)
        if len(alive) == 1:
            break
    room = max(int(share * (depth + 1)), 1)
    final = _climbed(depth, look, alive, last, looked | set(alive), room)
    looked |= set(final.states)
    best = final.ranked()[0]
    if not np.isfinite(final.of(best)):
        raise NonFinite("no state has a score: the vectors of every state are NaN or infinite")
    return Found(tuple(rounds), final, tuple(sorted(looked)), best, cheapest(final))


def losers(seen: Seen) -> tuple[int, ...]:
    """States of the worse half that are shown to be worse than the leader, or have no score."""
    order = seen.ranked()
    leader, worse = order[0], order[(len(order) + 1) // 2 :]
    without = [s for s in order if not np.isfinite(seen.of(s))]
    shown = [s for s in worse if np.isfinite(seen.of(s)) and seen.gap(leader, s)[1] > 0]
    return tuple(sorted({*shown, *(s for s in without if s != leader)}))


def within(seen: Seen) -> tuple[int, ...]:
    """States whose score is at most one standard error below the best one's, earliest first.

    The standard error is that of the difference, over draws of the items that both share: two states that are right on
    the same items are told apart sooner than two scores of that spread could be.
    """
    best = seen.ranked()[0]
    near = [
        s for s in seen.states
        if s == best or (np.isfinite(seen.of(s)) and seen.of(best) - seen.of(s) <= seen.error(best, s))
    ]  # fmt: skip
    return tuple(sorted(near))


def cheapest(seen: Seen) -> int:
    """The earliest state within one standard error of the best (Breiman et al. 1984, with depth as the cost)."""
    return within(seen)[0]


def _climbed(depth: int, look: Look, alive: tuple[int, ...], items: int, looked: set[int], room: int) -> Seen:
    """Scores on all items of the states that are left and of neighbours of the best two."""
    seen = look(alive, items)
    for step in STEPS:
        wanted: list[int] = []
        for top in seen.ranked()[:2]:
            wanted += [
                s for s in (top - step, top + step) if 0 <= s <= depth and s not in (*seen.states, *wanted)
            ]
        fresh = [s for s in wanted if s not in looked][: max(room - len(looked), 0)]
        asked = tuple(sorted({*seen.states, *fresh, *(s for s in wanted if s in looked)}))
        if asked != seen.states:
            seen = look(asked, items)
            looked |= set(fresh)
    return seen
