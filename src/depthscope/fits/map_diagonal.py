"""Where the best source of each target lies: on the diagonal of relative depth, or at the same number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.engine.measured import DRAWS
from depthscope.measures.linear_map import best_sources, rank_correlation, sharpness, slopes
from depthscope.measures.statistics import bootstrap_curve
from depthscope.results.measurement import Measurement

DIAGONAL: Mapping[str, tuple[str, str]] = {
    "rank_correlation": ("1", "Spearman's correlation of best source and target over targets"),
    "slope": (
        "1",
        "slope of relative depth of the best source on relative depth of the target; 1: equal depth",
    ),
    "slope_in_states": ("1", "slope of the number of the best source on the number of the target"),
    "relative_distance": (
        "1",
        "mean distance of the best source from equal relative depth, as a share of the depth",
    ),
    "absolute_distance": (
        "1",
        "mean distance of the best source from the same number (at most L), the same unit",
    ),
    "hypothesis_difference": (
        "1",
        "absolute_distance - relative_distance; above 0 the best sources keep relative depth",
    ),
    "sharpness": (
        "1",
        "error a quarter of the depth beside equal relative depth minus error on it, mean over targets",
    ),
}
"""Scalars of the diagonal: unit and meaning."""
MISSING = "fewer than three targets or two sources, or one source is best for all"


@dataclass(frozen=True)
class Geometry:
    """What sources and targets are.

    Args:
        lengths: layers of both models. itself: whether both are one network. differences: whether numbers are layers.
    """

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    lengths: tuple[int, int]
    itself: bool = False
    differences: bool = False

    @property
    def axes(self) -> dict[str, np.ndarray]:
        """The axes of a map over all pairs."""
        return {"source": np.asarray(self.sources), **self.target_axis}

    @property
    def target_axis(self) -> dict[str, np.ndarray]:
        """The axis of the targets."""
        return {"layer" if self.differences else "state": np.asarray(self.targets)}

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Sources and targets counted as states: a layer is where it leads to."""
        shift = 1 if self.differences else 0
        return np.asarray(self.sources) + shift, np.asarray(self.targets) + shift

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the best source of each inner target lies by either hypothesis: relative and absolute, as states."""
        first, second = self.lengths
        there = self.places[1][self.inner[1]]
        return there * first / second, np.minimum(there, first)

    @property
    def inner(self) -> tuple[np.ndarray, np.ndarray]:
        """Which sources and targets the diagonal is about: embeddings have no layer before them and are left out."""
        here, there = self.places
        return np.flatnonzero(here > 0), np.flatnonzero(there > 0)


@dataclass(frozen=True)
class Diagonal:
    """Statistics of the map of relative errors, resampled over units.

    Args:
        ratio: sums of relative errors, [unit source target]. counts: positions, [unit].
    """

    geometry: Geometry
    ratio: np.ndarray
    counts: np.ndarray
    seed: int
    note: str

    def measurements(self) -> list[Measurement]:
        """The best source of each target, scalars, and what only a model's map onto itself or an equal depth has."""
        geometry = self.geometry
        rows, columns = geometry.inner
        labels = np.asarray(geometry.sources)
        ((name, targets),) = geometry.target_axis.items()

        def best(errors: np.ndarray) -> np.ndarray:
            return labels[rows[best_sources(errors[:, rows][:, :, columns])]].astype(np.float64)

        note = "the source with the smallest relative_error, embeddings left out"
        found = [self._curve("best_source", best, {name: targets[columns]}, note), self._expected()]
        names = {"definition": np.asarray(list(DIAGONAL))}
        scalars = self._curve("diagonal", self._statistics, names, "")
        found += [self._scalar(scalars, name) for name in DIAGONAL]
        found += self._others() if geometry.itself else []
        return [*found, self._by_offset()] if geometry.lengths[0] == geometry.lengths[1] else found

    def _curve(
        self,
        name: str,
        statistic: Callable[[np.ndarray], np.ndarray],
        axes: Mapping[str, np.ndarray],
        note: str,
        unit: str = "1",
    ) -> Measurement:
        spread = np.broadcast_to(self.counts[:, None, None], self.ratio.shape)
        interval = bootstrap_curve(self.ratio, spread, statistic, DRAWS, self.seed)
        value, low, high = (np.asarray(part) for part in interval)
        n, items = np.asarray((self.counts > 0).sum()), np.asarray(self.counts.sum())
        said = "; ".join(part for part in (note, self.note) if part)
        missing = MISSING if np.isnan(value).any() else ""
        return Measurement(name, axes, value, unit, low, high, n, items, said, missing)

    def _expected(self) -> Measurement:
        """The best sources that either hypothesis expects, as numbers of sources."""
        shift = self.geometry.places[0][0] - self.geometry.sources[0]
        ((name, targets),) = self.geometry.target_axis.items()
        axes = {"definition": np.asarray(["relative", "absolute"]), name: targets[self.geometry.inner[1]]}
        note = "source of equal relative depth, and of the same number"
        return Measurement(
            "expected_source", axes, np.stack(self.geometry.expected()) - shift, "1", note=note
        )

    def _scalar(self, scalars: Measurement, name: str) -> Measurement:
        unit, note = DIAGONAL[name]
        one = scalars.select(definition=name)
        said = f"{note}; {self.note}"
        missing = scalars.missing if np.isnan(one.value) else ""
        return Measurement(name, {}, one.value, unit, one.low, one.high, one.n, one.n_items, said, missing)

    def _statistics(self, errors: np.ndarray) -> np.ndarray:
        """The scalars of DIAGONAL for each draw, [draw, scalar]."""
        rows, columns = self.geometry.inner
        here, there = (place[at] for place, at in zip(self.geometry.places, (rows, columns), strict=True))
        if len(here) < 2 or len(there) < 3:
            return np.full((len(errors), len(DIAGONAL)), np.nan)
        first, second = self.geometry.lengths
        inner = errors[:, rows][:, :, columns]
        best = here[best_sources(inner)].astype(np.float64)
        away = [np.abs(best - where).mean(1) / first for where in self.geometry.expected()]
        return np.stack([
            rank_correlation(best, there), slopes(best / first, there / second), slopes(best, there.astype(np.float64)),
            away[0], away[1], away[1] - away[0], sharpness(inner, here / first, there / second),
        ], axis=1)  # fmt: skip

    def _others(self) -> list[Measurement]:
        """Of a model's map onto itself: the best source that is not the target, and whether it is the nearest one."""
        rows, columns = self.geometry.inner
        labels, targets = np.asarray(self.geometry.sources)[rows], np.asarray(self.geometry.targets)[columns]
        if len(labels) < 2:
            return []
        same = labels[:, None] == targets
        gaps = np.asarray([np.abs(labels[labels != target] - target).min() for target in targets])

        def others(errors: np.ndarray) -> np.ndarray:
            places = best_sources(np.where(same, np.inf, errors[:, rows][:, :, columns]))
            return labels[places].astype(np.float64)

        def near(errors: np.ndarray) -> np.ndarray:
            return (np.abs(others(errors) - targets) == gaps).mean(1)

        axes = {next(iter(self.geometry.target_axis)): targets}
        best = "the source with the smallest relative_error besides the target itself"
        share = "share of targets whose best other source is the nearest one"
        return [
            self._curve("best_other_source", others, axes, best),
            self._curve("neighbour_share", near, {}, share, "probability"),
        ]

    def _by_offset(self) -> Measurement:
        """Mean relative error by the number of the target minus that of the source, embeddings included."""
        apart = np.asarray(self.geometry.targets)[None] - np.asarray(self.geometry.sources)[:, None]
        offsets = np.unique(apart)

        def means(errors: np.ndarray) -> np.ndarray:
            return np.stack([errors[:, apart == offset].mean(1) for offset in offsets], axis=1)

        note = "mean relative_error over pairs, by target minus source"
        return self._curve("error_by_offset", means, {"offset": offsets}, note)
