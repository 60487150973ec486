"""Sentences of the verdict box, and the numbers they rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depthscope.results.measurement import Measurement


@dataclass(frozen=True)
class Verdict:
    """One sentence of the verdict box.

    Args:
        topic: what it is about, as a short heading.
        sentence: the finding in plain words; says so when nothing is decided.
        decided: whether the rule could decide.
        because: measurement, interval, threshold and n behind the sentence.
    """

    topic: str
    sentence: str
    decided: bool
    because: str


@dataclass(frozen=True)
class Cell:
    """One number with its interval (unbounded where there is none) and its count of units."""

    value: float
    low: float
    high: float
    n: int | None

    @classmethod
    def of(cls, found: Measurement, **labels: object) -> Cell:
        """The cell of a measurement at one label of each axis."""
        index = tuple(int(np.flatnonzero(np.asarray(v) == labels[axis])[0]) for axis, v in found.axes.items())
        value = float(found.value[index])
        low = np.nan if found.low is None else float(found.low[index])
        high = np.nan if found.high is None else float(found.high[index])
        low, high = (-np.inf if np.isnan(low) else low), (np.inf if np.isnan(high) else high)
        return cls(value, low, high, None if found.n is None else int(found.n[index]))

    def overlaps(self, other: Cell) -> bool:
        """Whether the two intervals share a point."""
        return self.low <= other.high and other.low <= self.high

    def said(self, form: str = ".3g") -> str:
        """Value, interval and n, as the reader sees them."""
        units = "n is not stored" if self.n is None else f"n = {self.n:,}"
        if np.isinf([self.low, self.high]).any():
            return f"{self.value:{form}} (without an interval, {units})"
        return f"{self.value:{form}} (95 % interval {self.low:{form}} to {self.high:{form}}, {units})"
