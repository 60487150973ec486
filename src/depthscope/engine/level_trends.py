"""Trends of a score over levels of difficulty: means, slopes, rank tests, equivalence, detectable slopes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from depthscope.engine.cells import Items, inside
from depthscope.engine.measured import DRAWS
from depthscope.engine.needs import Facts
from depthscope.measures.statistics import bootstrap_regression
from depthscope.measures.trend import (
    WORDS,
    detectable,
    equivalence_p,
    jonckheere,
    least_squares,
    strata,
    stratified_spearman,
    verdict,
)
from depthscope.results.measurement import Measurement

KEPT = ("all", "answered")
"""All problems, and those that the model answers."""
COLUMNS: Mapping[str, str] = {
    "slope": "layers per level, least squares with log prompt length and answer length beside the level",
    "slope_alone": "layers per level without covariates: length may speak here",
    "shuffled_slope": "the slope with levels shuffled among the same problems: its interval should hold 0",
    "rank_correlation": "Spearman's, over all problems",
    "rank_p": "from permutations of levels within terciles of the prompt's length, two-sided",
    "ordered_z": "Jonckheere and Terpstra's, above 0 where scores rise with the level",
    "ordered_p": "Jonckheere and Terpstra's, two-sided, without covariates",
    "equivalence_p": "two one-sided tests that the slope over all levels stays within the margin",
    "detectable_slope": "layers per level that would be found with 80 % power at 5 %",
    "verdict": "1 uses more depth, 0 no meaningful change, -1 uses less depth",
}
"""Measurement -> what it is; each has one cell for a score and a choice of problems."""
UNITS = {"rank_p": "probability", "ordered_p": "probability", "equivalence_p": "probability"}


@dataclass(frozen=True)
class LevelTrends:
    """Scores of problems by level.

    Args:
        scores: [problem, score], NaN where there is none, under `names`. level, length, answer: of each problem.
        right: 1 answered, 0 not, NaN not known. fewest: problems that a level needs to count.
        margin: share of the layers that a score may change over all levels and still be called unchanged.
        draws: permutations.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    level: np.ndarray
    length: np.ndarray
    answer: np.ndarray
    right: np.ndarray
    unit: np.ndarray
    facts: Facts
    fewest: int
    margin: float
    draws: int

    @cached_property
    def levels(self) -> np.ndarray:
        """All levels, ascending."""
        return np.unique(self.level)

    @cached_property
    def kept(self) -> np.ndarray:
        """Which problems belong to each entry of `KEPT`, [problem, kept]."""
        return np.stack([np.ones(len(self.level), bool), self.right == 1], 1)

    def measurements(self) -> list[Measurement]:
        """Means by level, one number a score and choice of problems, and the share of problems answered."""
        axes = {"score": np.asarray(self.names), "kept": np.asarray(KEPT)}
        cells = {(s, k): self._cell(s, k) for s in range(len(self.names)) for k in range(len(KEPT))}
        at = self.level[:, None] == self.levels
        chosen = inside(self.scores, self.kept[:, :, None] & at[:, None, :])
        items = Items(self.unit, self.facts, self.fewest, "problems")
        plain = Items(self.unit, self.facts, 1, "problems")
        note = "layers (states for settle and kl_half), counted from 0"
        return [
            items.mean(chosen, "depth_score", {**axes, "level": self.levels}, "1", note),
            plain.mean(inside(self.right, at), "answered", {"level": self.levels}, "probability", "greedy"),
            *(self._collected(name, axes, cells) for name in COLUMNS),
        ]

    def used(self, score: int, kept: int) -> np.ndarray:
        """Problems of the levels that have enough of them, [problem]."""
        fine = self.kept[:, kept] & np.isfinite(self.scores[:, score])
        full = [level for level in self.levels if (fine & (self.level == level)).sum() >= self.fewest]
        return fine & np.isin(self.level, full)

    def _cell(self, score: int, kept: int) -> dict[str, tuple[float, float, float]]:
        """Every number of one score and choice of problems, as (value, low, high); empty where levels are too few."""
        at = self.used(score, kept)
        level, y, unit = self.level[at].astype(np.float64), self.scores[at, score], self.unit[at]
        if len(np.unique(level)) < 2:
            return {}
        beside = self._covariates(at)
        mixed = np.random.default_rng(self.facts.seed).permutation(level)
        slopes = {
            "slope": _slope(level, beside, y, unit, self.facts.seed),
            "slope_alone": _slope(level, beside[:, :0], y, unit, self.facts.seed),
            "shuffled_slope": _slope(mixed, beside, y, unit, self.facts.seed),
        }
        ranks = stratified_spearman(level, y, strata(self.length[at]), self.draws, self.facts.seed)
        fit = least_squares(_design(level, beside), y, unit)
        slope, error = float(fit.value[1]), float(fit.error[1])
        p = equivalence_p(slope, error, fit.freedom, self.margin * self.facts.n_layers / np.ptp(level))
        ordered = jonckheere(level, y)
        alone = {
            "rank_correlation": ranks.value, "rank_p": ranks.p, "ordered_z": ordered.value, "ordered_p": ordered.p,
            "equivalence_p": p, "detectable_slope": detectable(error, fit.freedom),
            "verdict": verdict(*slopes["slope"][1:], p),
        }  # fmt: skip
        return slopes | {name: (float(value), np.nan, np.nan) for name, value in alone.items()}

    def _covariates(self, at: np.ndarray) -> np.ndarray:
        """Log prompt length and answer length, those that vary; one that only repeats the other is left out."""
        found = np.zeros((int(at.sum()), 0))
        for column in (np.log(self.length[at].astype(np.float64)), self.answer[at].astype(np.float64)):
            wider = np.column_stack([found, column])
            if np.linalg.matrix_rank(np.column_stack([np.ones(len(wider)), wider])) == wider.shape[1] + 1:
                found = wider
        return found

    def _collected(
        self,
        name: str,
        axes: Mapping[str, np.ndarray],
        cells: Mapping[tuple[int, int], Mapping[str, tuple[float, float, float]]],
    ) -> Measurement:
        shape = (len(self.names), len(KEPT))
        parts = np.full((3, *shape), np.nan)
        n = np.zeros(shape, np.int64)
        for cell, found in cells.items():
            if name in found:
                parts[(slice(None), *cell)] = found[name]
                n[cell] = len(np.unique(self.unit[self.used(*cell)]))
        value, low, high = parts
        ends = (
            (low, high) if name.endswith(("slope", "alone")) and name != "detectable_slope" else (None, None)
        )
        reason = ""
        if np.isnan(value).any():
            reason = f"insufficient: fewer than two levels with {self.fewest} problems"
            if name == "verdict":
                reason = f"inconclusive, or {reason}"
            elif any(found and np.isnan(found[name][0]) for found in cells.values()):
                reason += (
                    ", or the level cannot be told apart from the prompt's length, or all scores are equal"
                )
        n = np.where(np.isnan(value), 0, n)
        return Measurement(name, dict(axes), value, UNITS.get(name, "1"), *ends, n, n, COLUMNS[name], reason)


def told(found: Mapping[str, Measurement], score: str, kept: str) -> str:
    """One score's verdict in words, with its slope, interval, detectable slope and number of problems."""
    cell = {name: found[name].select(score=score, kept=kept) for name in COLUMNS}
    slope = cell["slope"]
    if np.isnan(slope.value):
        return f"{score}, {kept} problems: {slope.missing}."
    assert slope.low is not None
    assert slope.high is not None
    assert slope.n is not None
    said = WORDS.get(cell["verdict"].scalar(), "inconclusive")
    return (
        f"{score}, {kept} problems (n = {int(slope.n)}): {said}. Slope {slope.scalar():+.3g} [{float(slope.low):+.3g}, "
        f"{float(slope.high):+.3g}] layers per level; {cell['detectable_slope'].scalar():.2g} would have been found; "
        f"rank correlation {cell['rank_correlation'].scalar():+.2f}, p = {cell['rank_p'].scalar():.2g}; equivalence "
        f"p = {cell['equivalence_p'].scalar():.2g}."
    )


def _design(level: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Columns: one, the level, covariates around their means."""
    return np.column_stack([np.ones(len(level)), level, beside - beside.mean(0)])


def _slope(
    level: np.ndarray, beside: np.ndarray, y: np.ndarray, unit: np.ndarray, seed: int
) -> tuple[float, float, float]:
    found = bootstrap_regression(_design(level, beside), y, unit, DRAWS, seed)
    return float(found.value[1]), float(found.low[1]), float(found.high[1])
