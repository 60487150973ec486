"""How well guesses meet the states of a text: sums by position and by unit, for every guess of one state at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.measures.predictability import Sums, mean_squared_error, narrow, r_squared
from depthscope.measures.statistics import multiplicities

TARGETS = ("all", "no_sinks", "late", "trimmed")
"""Every target; those no longer than 20 medians; those from position LATE on; without the 3 widest dimensions."""
LATE = 32
DRAWS = 1000


@dataclass
class Scores:
    """Sums of one state over a text; `errors` has a table for each guess.

    Tables are [position, d] for targets that are no sink and for sinks, and [unit, d] for all, float64.
    """

    tables: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def add(
        self,
        h: Float[Tensor, "row position d_model"],
        guesses: dict[str, Tensor],
        sink: Bool[Tensor, "row position"],
        units: Tensor,
        n_units: int,
    ) -> None:
        """One batch: targets, the guess of each, which targets are sinks, and the unit of each row."""
        exact = h.double()
        wide = {"items": torch.ones_like(exact[..., :1]), "total": exact, "squares": exact.square()}
        for name, value in wide.items():
            self._grouped(self.tables, name, value, sink, units, n_units)
        for guess, value in guesses.items():
            table = self.errors.setdefault(guess, {})
            self._grouped(table, "errors", (exact - value.double()).square(), sink, units, n_units)

    def _grouped(
        self, into: dict[str, Tensor], name: str, value: Tensor, sink: Tensor, units: Tensor, n_units: int
    ) -> None:
        parts = {
            f"{name}.kept": torch.where(sink[..., None], 0.0, value).sum(0),
            f"{name}.sink": torch.where(sink[..., None], value, 0.0).sum(0),
            f"{name}.unit": value.new_zeros(n_units, value.shape[-1]).index_add_(0, units, value.sum(1)),
        }
        for key, part in parts.items():
            into[key] = into[key] + part if key in into else part

    def by_position(self, guess: str, targets: str) -> Sums:
        """The sums by position over some of TARGETS."""
        sums = self._sums(guess, "kept")
        if targets != "no_sinks":
            sums = Sums(*(a + b for a, b in zip(sums, self._sums(guess, "sink"), strict=True)))
        if targets == "late":
            return Sums(*(part[LATE - 1 :] for part in sums))  # row 0 is position 1
        if targets == "trimmed":
            at = narrow(sums.items, sums.total, sums.squares)
            return Sums(sums.items, *(part[:, at] for part in sums[1:]))
        return sums

    def by_unit(self, guess: str) -> Sums:
        """The sums by unit over every target."""
        return self._sums(guess, "unit")

    def r2(self, guess: str, targets: str, definition: str) -> float:
        """R2 of one guess; NaN where no target is left."""
        return float(r_squared(*self.by_position(guess, targets), definition))

    def mse(self, guess: str, targets: str = "all") -> float:
        """Mean squared error a dimension."""
        sums = self.by_position(guess, targets)
        return float(mean_squared_error(sums.items, sums.errors))

    def draws(self, guess: str, definition: str, seed: int) -> np.ndarray:
        """R2 over every target, units drawn with replacement: [draw]; equal seeds draw equal units."""
        sums = self.by_unit(guess)
        weights = (
            torch.from_numpy(multiplicities(len(sums.items), DRAWS, seed)).double().to(sums.items.device)
        )
        total, squares, errors = ((weights @ part)[:, None] for part in sums[1:])
        return r_squared(weights @ sums.items[:, None], total, squares, errors, definition).cpu().numpy()

    def _sums(self, guess: str, kind: str) -> Sums:
        tables = self.tables
        return Sums(
            tables[f"items.{kind}"][:, 0], tables[f"total.{kind}"], tables[f"squares.{kind}"],
            self.errors[guess][f"errors.{kind}"],
        )  # fmt: skip
