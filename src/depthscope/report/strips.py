"""Token strips: what each state would say at each position, as tables that need no JavaScript.

Model text is hostile: control and formatting characters are made visible, the template escapes the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depthscope.results.measurement import Table
from depthscope.results.visible import visible

STRIPS = 6
"""So many strips are shown."""

POSITIONS = 48
"""So many positions of a strip are shown."""


@dataclass(frozen=True)
class StripCell:
    """One state at one position: its top-1, how probable, whether it is the final one, and the top-k."""

    prediction: str
    probability: float
    final: bool
    top: tuple[tuple[str, float], ...]

    @property
    def told(self) -> str:
        """The top-k as lines of token, tab, probability."""
        return "\n".join(f"{token}\t{probability:.3f}" for token, probability in self.top)


@dataclass(frozen=True)
class Strip:
    """A piece of one document: tokens, true next tokens, and a row of cells per state, first to last."""

    document: str
    tokens: tuple[str, ...]
    targets: tuple[str, ...]
    states: tuple[int, ...]
    rows: tuple[tuple[StripCell | None, ...], ...]
    note: str = ""


def strips_of(table: Table, lens: str = "") -> list[Strip]:
    """The first STRIPS strips of an example table, POSITIONS long at most.

    Its columns: strip, document, position, token, target, state, k, prediction, probability.

    Args:
        lens: the name of the lens that states were read through, said in each strip's caption.
    """
    numbers = np.asarray(table.columns["strip"])
    return [_strip(table, numbers == number, lens) for number in np.unique(numbers)[:STRIPS]]


def _strip(table: Table, chosen: np.ndarray, lens: str) -> Strip:
    columns = {name: np.asarray(values)[chosen] for name, values in table.columns.items()}
    every = np.unique(columns["position"])
    positions, states = every[:POSITIONS].tolist(), np.unique(columns["state"]).tolist()
    tops: dict[tuple[int, int], list[tuple[int, str, float]]] = {}
    heads: dict[int, tuple[str, str]] = {}
    for i in range(len(columns["position"])):
        position = int(columns["position"][i])
        guess = int(columns["k"][i]), visible(str(columns["prediction"][i])), float(columns["probability"][i])
        tops.setdefault((int(columns["state"][i]), position), []).append(guess)
        heads.setdefault(position, (str(columns["token"][i]), str(columns["target"][i])))
    finals = {p: min(tops[states[-1], p])[1] for p in positions if (states[-1], p) in tops}
    cut = f"the first {POSITIONS} of {len(every)} positions" if len(every) > POSITIONS else ""
    return Strip(
        str(columns["document"][0]),
        tuple(visible(heads[p][0]) for p in positions),
        tuple(visible(heads[p][1]) for p in positions),
        tuple(states),
        tuple(tuple(_cell(tops.get((s, p)), finals.get(p)) for p in positions) for s in states),
        ", ".join(part for part in (f"read through the lens {visible(lens)}" if lens else "", cut) if part),
    )


def _cell(guesses: list[tuple[int, str, float]] | None, final: str | None) -> StripCell | None:
    if not guesses:
        return None
    top = [(token, probability) for _, token, probability in sorted(guesses)]
    return StripCell(top[0][0], top[0][1], top[0][0] == final, tuple(top))
