"""Interleaved pairs: A B B A, the ratio of each pair, and whether the machine was quiet enough to believe it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

PAIRS = 9
QUIET = 0.05
ASKED = [PAIRS]
"""How many pairs are timed; `--pairs` changes it."""


@dataclass(frozen=True)
class Ratio:
    """The cost of B in units of A.

    Args:
        ratio: median over pairs of (b1 + b2) / (a1 + a2). low, high: the middle half of the pairs.
        noise: middle half of |a1 / a2 - 1|: what A differs from itself by; None where A ran once. seconds: median of A.
    """

    name: str
    ratio: float
    low: float
    high: float
    noise: float | None
    seconds: float
    pairs: int
    goal: str = ""

    @property
    def quiet(self) -> bool:
        """True where A differed from itself by at most 5 % in the median pair."""
        return self.noise is not None and self.noise <= QUIET

    def line(self) -> str:
        """One printed row."""
        noisy = (
            "ONE RUN OF A" if self.noise is None else f"TOO NOISY: A differs from itself by {self.noise:.0%}"
        )
        words = "" if self.quiet else f"  {noisy}"
        goal = f"  goal {self.goal}" if self.goal else ""
        spread = f"[{self.low:.3f}, {self.high:.3f}]"
        return f"{self.name:58s} {self.ratio:6.3f}  {spread}  A {self.seconds:.2f} s{goal}{words}"


def paired(
    name: str,
    a: Callable[[], object],
    b: Callable[[], object],
    goal: str = "",
    most: int = PAIRS,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Time A and B in the order A B B A, as often as asked but at most `most` times, after one warm-up of each.

    Args:
        clock: `time.process_time` counts the processor's work instead, on one thread, whatever else the machine does.
    """
    a(), b()
    ratios, drifts, base = [], [], []
    pairs = min(ASKED[0], most)
    for _ in range(pairs):
        a1, b1, b2, a2 = (seconds(work, clock) for work in (a, b, b, a))
        ratios.append((b1 + b2) / (a1 + a2))
        drifts.append(abs(a1 / a2 - 1))
        base.append((a1 + a2) / 2)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Ratio(name, middle, low, high, statistics.median(drifts), statistics.median(base), pairs, goal)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call, wall-clock time unless another clock is given."""
    begun = clock()
    work()
    return clock() - begun
