"""Verdict on the compression valley: whether prompt entropy falls in the middle, and whether one token does that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

Results = Mapping[str, Result]
SHALLOW = 0.1
"""Prompt entropy that falls by less than this makes no valley."""
KEPT = 0.5
"""What massive tokens explain leaves less than this share of the fall when they are left out."""
WITHOUT = {"wei_no_first": "the first token", "wei_no_massive": "massive tokens"}


@dataclass(frozen=True)
class Fall:
    """How far prompt entropy falls from one state to a later one, with the bounds that both intervals allow."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Measurement, rim: int, bottom: int, mode: str) -> Fall:
        """The fall of one mode."""
        above, below = (Cell.of(found, state=state, mode=mode) for state in (rim, bottom))
        return cls(above.value - below.value, above.low - below.high, above.high - below.low)

    def said(self) -> str:
        """Value and bounds."""
        return f"{self.value:.3g} (bounds {self.low:.3g} to {self.high:.3g})"


def one_token(results: Results) -> Verdict:
    """Whether the middle compresses: fall of prompt entropy with all tokens and without the first or massive ones."""
    topic = "Whether the middle compresses, or one token"
    found = results["representation_profile"]["prompt_entropy"]
    rim, bottom = _valley(found)
    fall = Fall.of(found, rim, bottom, "wei")
    left = {mode: Fall.of(found, rim, bottom, mode) for mode in WITHOUT if mode in found.axes["mode"]}
    n = Cell.of(found, state=bottom, mode="wei").n
    because = (
        f"representation_profile/prompt_entropy falls from state {rim} to state {bottom} by {fall.said()} in mode wei, "
        + ", ".join(f"{each.said()} in {mode}" for mode, each in left.items())
        + f"; n = {n}. A valley falls by {SHALLOW}; a token explains it where less than {KEPT:.0%} is left without it."
    )
    if fall.high < SHALLOW:
        return Verdict(
            topic, f"Prompt entropy falls nowhere by {SHALLOW}: there is no valley.", True, because
        )
    if fall.low < SHALLOW:
        return Verdict(
            topic, "Not decided: the intervals leave open whether there is a valley.", False, because
        )
    where = f"Prompt entropy falls by {fall.value:.2f} between states {rim} and {bottom}"
    for mode, each in left.items():
        if each.high < KEPT * fall.low:
            rest = "nothing" if each.value <= 0 else f"{each.value:.2f}"
            return Verdict(topic, f"{where}; without {WITHOUT[mode]} {rest} of it is left.", True, because)
    if left and all(each.low > KEPT * fall.high for each in left.values()):
        return Verdict(
            topic, f"{where}, with and without massive tokens: the middle compresses.", True, because
        )
    return Verdict(
        topic, f"Not decided: {where.lower()}, and it is open what massive tokens add.", False, because
    )


def _valley(found: Measurement) -> tuple[int, int]:
    """The highest state before the lowest one of those between the ends, mode wei."""
    states = np.asarray(found.axes["state"])
    values = found.select(mode="wei").value
    inner = range(1, len(states) - 1)
    bottom = min(inner, key=lambda k: values[k] if np.isfinite(values[k]) else np.inf)
    rim = max(range(bottom), key=lambda k: values[k] if np.isfinite(values[k]) else -np.inf)
    return int(states[rim]), int(states[bottom])
