"""From the sums of judged maps to measurements: errors of every pair of states beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from depthscope.engine.measured import mean, ratio
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.fits.map_diagonal import Diagonal, Geometry
from depthscope.fits.map_judge import ALONE, SUMMED
from depthscope.results.measurement import Measurement


@dataclass(frozen=True)
class Judged:
    """The sums of all groups put together; everything is over units of held-out text.

    Args:
        sums: name -> [unit source target] or [unit target], shuffled sources taken out into `shuffled` [unit target].
    """

    geometry: Geometry
    units: tuple[str, ...]
    sums: Mapping[str, np.ndarray]
    shuffled: np.ndarray
    facts: Facts
    note: str

    @classmethod
    def of(
        cls,
        groups: Sequence[Mapping[str, Any]],
        geometry: Geometry,
        units: tuple[str, ...],
        facts: Facts,
        note: str,
    ) -> Judged:
        """From what each group's step left, the shuffled source last of all."""
        joined = {name: _joined(groups, name, 1) for name in SUMMED}
        joined |= {name: _joined(groups, name, 0) for name in ("dimension_r2", "alpha")}
        alone = {name: np.asarray(groups[0][name], np.float64) for name in (*ALONE, "count")}
        shuffled = joined["ratio"][:, -1]
        joined = {name: value[:, :-1] if name in SUMMED else value[:-1] for name, value in joined.items()}
        return cls(geometry, units, {**joined, **alone}, shuffled, facts, note)

    def measurements(self) -> dict[str, Measurement]:
        """All of them, by name."""
        diagonal = Diagonal(self.geometry, self.sums["ratio"], self._counts, self.facts.seed, self.note)
        found = [*self._pairs(), *self._baselines(), *diagonal.measurements()]
        return {each.name: each for each in found}

    @cached_property
    def _counts(self) -> np.ndarray:
        return self.sums["count"].astype(np.int64)

    def _per(self, values: np.ndarray) -> PerDocument:
        counts = self._counts.reshape(-1, *(1,) * (values.ndim - 1))
        return PerDocument(self.units, values, np.broadcast_to(counts, values.shape))

    def _mean(self, name: str, values: np.ndarray, note: str, alone: bool = False) -> Measurement:
        axes = self.geometry.target_axis if alone else self.geometry.axes
        return mean(self._per(values), name, axes, "1", self.facts, f"{note}; {self.note}")

    def _ratio(self, name: str, above: str, below: str, note: str) -> Measurement:
        top = self.sums[above]
        bottom = np.broadcast_to(self.sums[below][:, None], top.shape)
        said, still = f"{note}; {self.note}", "the targets do not vary"
        return ratio(
            self._per(top), self._per(bottom), name, self.geometry.axes, "1", self.facts, said, still
        )

    def _pairs(self) -> list[Measurement]:
        sums, axes = self.sums, self.geometry.axes
        about = "1 - squared errors / squares about the training mean"
        of_one = f"median over dimensions of {about}; without an interval; {self.note}"
        chosen = "chosen multiple of the mean diagonal of the Gram matrix"
        return [
            self._mean("relative_error", sums["ratio"], "mean over positions of |y' - y| / |y|"),
            self._ratio("error_ratio", "error", "norm", "sum of |y' - y| / sum of |y|"),
            self._mean("direction_error", sums["direction"], "mean of |y'/rms(y') - y/rms(y)| / |y/rms(y)|"),
            _explained(self._ratio("r2", "squared", "spread", f"{about}, over all dimensions together")),
            Measurement("dimension_r2", axes, sums["dimension_r2"], "1", note=of_one),
            Measurement("penalty", axes, sums["alpha"], "1", note=chosen),
        ]

    def _baselines(self) -> list[Measurement]:
        geometry = self.geometry
        mean_of, shuffled = "relative error of the mean of the training targets", "sources of other positions"
        found = [
            self._mean("mean_error", self.sums["mean_ratio"], mean_of, alone=True),
            self._mean(
                "shuffled_error", self.shuffled, f"relative error of maps from {shuffled}", alone=True
            ),
        ]
        if geometry.differences:
            return found
        rows = self.sums["ratio"][:, geometry.sources.index(0)]
        return [
            *found,
            self._mean("embedding_error", rows, "relative error of maps from state 0", alone=True),
        ]


def _joined(groups: Sequence[Mapping[str, Any]], name: str, axis: int) -> np.ndarray:
    return np.concatenate([np.asarray(group[name], np.float64) for group in groups], axis=axis)


def _explained(left: Measurement) -> Measurement:
    """One minus a share that is left, its interval turned round."""
    assert left.low is not None
    assert left.high is not None
    return replace(left, value=1 - left.value, low=1 - left.high, high=1 - left.low)
