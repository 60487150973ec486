"""Whether the entropies of prompts have two modes: every sign at every state, and the verdict on all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.measured import states
from depthscope.engine.needs import Facts
from depthscope.measures.dip import dip, dip_p
from depthscope.measures.modes import (
    ALPHA,
    ashman_d,
    bimodal,
    bimodality_coefficient,
    equal_posterior,
    mixture,
    valley,
)
from depthscope.measures.statistics import holm
from depthscope.results.measurement import Measurement

MODES = ("wei", "wei_no_first", "wei_no_massive")
ADJUSTED = ("plain", "length_removed")
"""Entropies as they are, and what is left of them after a regression on the logarithm of the number of tokens."""
FEWEST = 100
"""Fewer prompts get no verdict."""
BINS = np.round(np.arange(0, 1, 0.025), 3)
"""Lower edges of the bins of `histogram`."""
COLUMNS: Mapping[str, tuple[str, str]] = {
    "dip": ("1", "Hartigans' dip"),
    "dip_p": ("probability", "of the dip among uniform samples, adjusted for the number of states (Holm)"),
    "bic_gain": ("1", "BIC of one normal minus that of two; above 10 counts"),
    "parts": ("1", "normals in the mixture of least BIC, of 1 to 3"),
    "ashman_d": ("1", "distance of the two normals in their spread; above 2 counts"),
    "minor_weight": ("probability", "weight of the smaller of the two normals; from 0.1 on counts"),
    "bimodality_coefficient": ("1", "above 5/9 is a first hint"),
    "valley": ("1", "density between two peaks over the lower one; 1 with one peak"),
    "threshold": ("1", "where both normals are equally likely"),
    "bimodal": ("1", "1 where dip, BIC and distance all say two modes, else 0"),
}
"""Measurement -> its unit and what it is; each has a cell for every state, mode and adjustment."""


@dataclass(frozen=True)
class Prompts:
    """Prompts that have an entropy at every state in every mode.

    Args:
        entropy: [prompt, mode, state]. changed: of the changed copies in mode wei, [prompt, change, state], NaN where
            there is none.
        tokens, label, shown, unit, document: of each prompt. features: name -> [prompt] or [prompt, state].
        dropped: prompts left out because a state had no two different vectors.
        draws: uniform samples of the dip test at least.
    """

    entropy: np.ndarray
    changed: np.ndarray
    tokens: np.ndarray
    label: np.ndarray
    shown: np.ndarray
    unit: np.ndarray
    document: np.ndarray
    features: Mapping[str, np.ndarray]
    dropped: int
    draws: int
    facts: Facts

    @property
    def enough(self) -> bool:
        """Whether there are prompts enough for a verdict."""
        return len(self.entropy) >= FEWEST

    @property
    def lacking(self) -> str:
        """Why there is no verdict."""
        return f"insufficient: {len(self.entropy)} prompts where {FEWEST} are needed"

    @cached_property
    def signs(self) -> dict[str, np.ndarray]:
        """`COLUMNS` -> [state, mode, adjustment]; NaN without prompts enough."""
        shape = (self.entropy.shape[2], len(MODES), len(ADJUSTED))
        found = {name: np.full(shape, np.nan) for name in COLUMNS}
        if not self.enough:
            return found
        for mode, kind in np.ndindex(shape[1:]):
            values = self.entropy[:, mode]
            values = without_length(values, self.tokens) if ADJUSTED[kind] == "length_removed" else values
            signs = [_signs(values[:, s], self._needed(shape[0]), self.facts.seed) for s in range(shape[0])]
            for name in signs[0]:
                found[name][:, mode, kind] = [one[name] for one in signs]
            adjusted = holm(found["dip_p"][:, mode, kind])
            found["dip_p"][:, mode, kind] = adjusted
            parts = (found[name][:, mode, kind] for name in ("bic_gain", "ashman_d", "minor_weight"))
            found["bimodal"][:, mode, kind] = [
                bimodal(*map(float, c)) for c in zip(adjusted, *parts, strict=True)
            ]
        return found

    def _needed(self, tests: int) -> int:
        """Draws with which one state of all can still pass Holm's threshold, twice over."""
        return max(self.draws, math.ceil(2 * tests / ALPHA))

    def high(self, state: int) -> np.ndarray | None:
        """Which prompts lie above the threshold of a state with two modes; None where there are not two."""
        if self.signs["bimodal"][state, 0, 0] != 1 or np.isnan(self.signs["threshold"][state, 0, 0]):
            return None
        return self.entropy[:, 0, state] > self.signs["threshold"][state, 0, 0]

    def measurements(self) -> list[Measurement]:
        """Means, histograms and signs."""
        axes = {**states(self.facts), "mode": np.asarray(MODES)}
        items = Items(self.unit, self.facts, 1, "prompts")
        by_state = self.entropy.transpose(0, 2, 1)
        place = np.clip((by_state / BINS[1] + 1e-9).astype(int), 0, len(BINS) - 1)
        inside = (place[..., None] == np.arange(len(BINS))).astype(np.float64)
        said = "entropy of centred unit rows over ln of the largest number of directions; mean over prompts"
        found = [items.mean(by_state, "entropy", axes, "1", said)]
        share = items.mean(
            inside, "histogram", {**axes, "bucket": BINS}, "probability", "bucket: lower edge of the bin"
        )
        return [*found, share, *(self._column(name) for name in COLUMNS)]

    def _column(self, name: str) -> Measurement:
        unit, note = COLUMNS[name]
        axes = {**states(self.facts), "mode": np.asarray(MODES), "variant": np.asarray(ADJUSTED)}
        value = self.signs[name]
        missing = (
            "no point between the means is equally likely, or the entropies are all equal"
            if self.enough
            else self.lacking
        )
        counts = np.full(value.shape, len(np.unique(self.unit))), np.full(value.shape, len(self.entropy))
        return Measurement(
            name, axes, value, unit, n=counts[0], n_items=counts[1], note=note,
            missing=missing if np.isnan(value).any() else "",
        )  # fmt: skip


def _signs(values: np.ndarray, draws: int, seed: int) -> dict[str, float]:
    """All signs of one sample but the verdict."""
    fits = [mixture(values, k, seed=seed) for k in (1, 2, 3)]
    two, bics = fits[1], np.array([fit.bic for fit in fits])
    found = dip(values)
    return {
        "dip": found, "dip_p": dip_p(found, len(values), draws, seed), "bic_gain": bics[0] - bics[1],
        "parts": float(np.nanargmin(bics) + 1) if np.isfinite(bics).any() else math.nan,
        "ashman_d": ashman_d(two.means, two.variances), "minor_weight": float(two.weights.min()),
        "bimodality_coefficient": bimodality_coefficient(values), "valley": valley(values),
        "threshold": equal_posterior(two.weights, two.means, two.variances),
    }  # fmt: skip


def without_length(values: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """[prompt, state] less their line over ln tokens by least squares, means kept; unchanged where all are as long."""
    x = np.log(tokens) - np.log(tokens).mean()
    if np.ptp(x) < 1e-12:
        return values
    return values - x[:, None] * (x @ values) / (x @ x)


def in_cells(
    shape: Sequence[int], cells: Mapping[tuple[int, ...], Sequence[float]], width: int
) -> list[np.ndarray]:
    """Arrays of a shape, NaN but in some cells, from `width` numbers a cell."""
    found = [np.full(tuple(shape), np.nan) for _ in range(width)]
    for cell, numbers in cells.items():
        for into, number in zip(found, numbers, strict=True):
            into[cell] = number
    return found
