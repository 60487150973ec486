"""A changed model against the intact one on the same items: difference, interval, p, and a verdict that can wait."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from depthscope.advise.scoring import Scores
from depthscope.errors import BadInput

Verdict = Literal["holds", "fails", "undecided"]
DRAWS = 10_000


@dataclass(frozen=True)
class Comparison:
    """A changed model against the intact one on the same items of one task.

    Args:
        n: items. base, other: their shares of right items, 0..1. difference: other - base, with the ends of its 95 %
            interval. gained, lost: items that only the changed, only the intact model gets right.
        p: of McNemar's exact test that both are equally often right alone, two-sided.
        margin: the largest loss that is allowed, 0..1.
        verdict: holds (the interval lies above -margin), fails (it lies below), undecided (it holds -margin).
        more: about how many items more would decide it; None where it is decided or the loss seen is the margin itself.
    """

    task: str
    by: str
    n: int
    base: float
    other: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float
    margin: float
    verdict: Verdict
    more: int | None

    @property
    def sentence(self) -> str:
        """The comparison in one line, in points of 100 items."""
        ends = f"{100 * self.low:+.1f} to {100 * self.high:+.1f}"
        said = f"{self.task} by {self.by}: {100 * self.difference:+.1f} points (95 % {ends}, n = {self.n}), "
        rule = f"{self.verdict} at a margin of {100 * self.margin:g} points"
        return said + rule + (f", needs about {self.more} more items" if self.more else "")

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Comparison:
        """The comparison that `as_dict` gave."""
        return cls(**stored)


def compared(
    base: Scores, other: Scores, margin: float = 0.02, *, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """The changed model against the intact one.

    The interval is the percentile bootstrap of the mean paired difference over items. Where no item was lost (or none
    gained) resampling cannot see one, so that end is at least as far as the exact 97.5 % bound of a share of which none
    of n was seen, 1 - 0.025^(1/n): without it, three equal items would show anything.

    About N more items: n = 3.84 q / margin^2 for the share q of items that differ if the true difference is 0 (normal
    approximation); with the seen difference d in its place, 3.84 (q - d^2) / (margin + d)^2, where that many are there
    already; never fewer than the exact bound needs without any lost item.

    Raises:
        BadInput: when the two were not scored on the same items in one way, or the margin is not above 0: that nothing
            at all is lost cannot be shown by any number of items.
    """
    same = (base.task, base.by, base.ids) == (other.task, other.by, other.ids)
    if not same or not base.ids:
        raise BadInput(
            f"{base.task!r} by {base.by} on {len(base.ids)} items cannot be paired with {other.task!r} by {other.by} "
            f"on {len(other.ids)}; score both on the same items"
        )
    if not 0 < margin < 1:
        raise BadInput(
            f"a margin lies between 0 and 1 (0.02 is 2 points), got {margin}; no loss at all cannot be shown"
        )
    right, now = np.asarray(base.correct, bool), np.asarray(other.correct, bool)
    n, gained, lost = len(right), int((now & ~right).sum()), int((right & ~now).sum())
    difference = (gained - lost) / n
    low, high = _interval(n, gained, lost, draws, seed)
    verdict: Verdict = "holds" if low >= -margin else "fails" if high < -margin else "undecided"
    more = _more(n, gained, lost, margin) if verdict == "undecided" else None
    return Comparison(
        base.task, base.by, n, float(right.mean()), float(now.mean()), difference, low, high, gained, lost,
        mcnemar(gained, lost), margin, verdict, more,
    )  # fmt: skip


def items_needed(differing: float, margin: float) -> float:
    """Items that tell a loss of `margin` from none: 3.84 q / margin^2 for the share q of items that differ."""
    return 3.84 * differing / margin**2


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p that both models are equally often right alone: 2 P(X <= min), X binomial of one half."""
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def _interval(n: int, gained: int, lost: int, draws: int, seed: int) -> tuple[float, float]:
    shares = [gained / n, lost / n, max(0.0, 1 - (gained + lost) / n)]
    drawn = np.random.default_rng(seed).multinomial(n, shares, draws)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    unseen = 1 - 0.025 ** (1 / n)
    return (
        float(min(low, gained / n - unseen) if lost == 0 else low),
        float(max(high, unseen - lost / n) if gained == 0 else high),
    )


def _more(n: int, gained: int, lost: int, margin: float) -> int | None:
    q, d = (gained + lost) / n, (gained - lost) / n
    unseen = math.log(0.025) / math.log(1 - margin)
    needed = max(items_needed(q, margin), unseen)
    if needed <= n:
        if math.isclose(d, -margin):
            return None
        needed = items_needed(q - d * d, margin + d)
    return max(1, math.ceil(needed) - n)
