"""Class onsets: at which depth tokens are predicted, by the class of the word they start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from depthscope.engine.measured import difference, mean, median, states
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument, Rows
from depthscope.materials.taggers import CONTENT, FUNCTION
from depthscope.materials.words import CONT, MULTI, SPACE
from depthscope.measures.onset import DEFINITIONS
from depthscope.results.measurement import Measurement

FROM_POSITION = (1, 16, 64, 256, 1024)
FROM_PROBABILITY = (0.0, 0.25, 0.5, 0.75)
BINS = 10
"""Bins of equal size in which both groups get equal weight for the matched difference."""


@dataclass(frozen=True)
class ClassOnsets:
    """Positions with their classes and onsets.

    Args:
        columns: `unit`, `onset` [item, definition, k], `correct`, `entropy`, `probability`, `token`, `position`.
        labels: the class of each position. keep: the positions that onsets are taken over.
        tags: all classes of words, in order. ranks: the k of rank <= k.
    """

    columns: Mapping[str, np.ndarray]
    labels: np.ndarray
    keep: np.ndarray
    tags: tuple[str, ...]
    ranks: tuple[int, ...]
    facts: Facts

    def measurements(self) -> dict[str, Measurement]:
        """All of them by name."""
        found = [
            *self.by_onset(), self.reached(), self.exits(), *self.differences(), *self.shares(), self.types(),
            self.entropy(), *self.strata(),
        ]  # fmt: skip
        return {m.name: m for m in found}

    @property
    def classes(self) -> tuple[str, ...]:
        """Tags, the two groups, and what starts no word."""
        return (*self.tags, "function", "content", CONT, MULTI, SPACE)

    @cached_property
    def is_of(self) -> np.ndarray:
        """True where a position [item] is of a class [word_class]."""
        groups = {"function": FUNCTION, "content": CONTENT}
        return np.stack([np.isin(self.labels, groups.get(c, (c,))) for c in self.classes], -1)

    @cached_property
    def member(self) -> np.ndarray:
        """True where a kept position [item] is of a class [word_class]."""
        return self.is_of & self.keep[:, None]

    @cached_property
    def onset(self) -> np.ndarray:
        """Onsets [item, definition, k]; the last state where it is not reached before."""
        return np.minimum(self.columns["onset"], self.facts.n_layers).astype(np.float64)

    @property
    def axes(self) -> dict[str, np.ndarray]:
        """The axis of classes."""
        return {"word_class": np.asarray(self.classes)}

    @property
    def shared_axes(self) -> dict[str, np.ndarray]:
        """Definition and k."""
        return {"definition": np.asarray(DEFINITIONS), "k": np.asarray(self.ranks)}

    def by_class(self, values: np.ndarray) -> PerDocument:
        """Sums of values [item, *cells] over the positions of each class, [word_class, *cells]."""
        inside = self.member.reshape(*self.member.shape, *([1] * (values.ndim - 1)))
        return PerDocument.of(self.columns["unit"].tolist(), np.where(inside, values[:, None], np.nan))

    def averaged(
        self,
        values: np.ndarray,
        name: str,
        unit: str,
        note: str,
        more: Mapping[str, np.ndarray] | None = None,
    ) -> Measurement:
        """Mean of values [item, *more] over the positions of each class."""
        missing = "no position that is kept is of this class"
        axes = {**self.axes, **(more or {})}
        return mean(self.by_class(values), name, axes, unit, self.facts, note, missing)

    def by_onset(self) -> list[Measurement]:
        """Means in states and as depth, the paper's mean, the censored share, and the median at the least k."""
        last, axes = self.facts.n_layers, self.shared_axes
        note = f"state index, 0 to {last}; what is not reached before the last state counts as {last}"
        late = self.onset >= last
        return [
            self.averaged(self.onset, "onset", "1", note, axes),
            self.averaged(self.onset / last, "onset_depth", "1", "onset / number of layers", axes),
            self.averaged(
                np.where(late, np.nan, self.onset), "onset_dropped", "1",
                "only positions that reach it before the last state", axes,
            ),
            self.averaged(late.astype(float), "onset_censored", "probability", "not before the last state", axes),
            self._median(),
        ]  # fmt: skip

    def _median(self) -> Measurement:
        least = np.where(self.member[:, :, None], self.onset[:, None, :, 0], np.nan)
        rows = Rows(np.empty(0), {"onset": least, "unit": self.columns["unit"]}, 0)
        axes = {**self.axes, "definition": np.asarray(DEFINITIONS)}
        return median(rows, "onset", "onset_median", axes, "1", self.facts, f"of rank <= {self.ranks[0]}")

    def reached(self) -> Measurement:
        """Share whose token was on top by each state."""
        by = (self.onset[:, 0, 0, None] <= np.arange(self.facts.n_layers + 1)).astype(float)
        note = f"first onset of rank <= {self.ranks[0]} at this state or before"
        return self.averaged(by, "reached", "probability", note, states(self.facts))

    def exits(self) -> Measurement:
        """Share that loses the rank again after reaching it."""
        lost = (self.onset[:, 0] < self.onset[:, 1]).astype(float)
        k = {"k": self.shared_axes["k"]}
        return self.averaged(lost, "reexit_rate", "probability", "first onset before the stable one", k)

    def differences(self) -> list[Measurement]:
        """Content minus function words, plain and at equal final probability."""
        sums = self.by_class(self.onset)
        weight = self._matching()
        matched = self.by_class(self.onset * weight[:, None, None])
        weights = self.by_class(np.broadcast_to(weight[:, None, None], self.onset.shape)).sums
        note = "onset of content words minus onset of function words, in states"
        equal = f"{note}; both weighted to equal numbers in {BINS} bins of the final probability"
        return [
            self._difference(sums, "difference", note),
            self._difference(matched, "difference_matched", equal, weights),
        ]

    def _difference(
        self, sums: PerDocument, name: str, note: str, weights: np.ndarray | None = None
    ) -> Measurement:
        sides = [self.classes.index(group) for group in ("function", "content")]
        one, two = (PerDocument(sums.units, sums.sums[:, k], sums.counts[:, k]) for k in sides)
        below = None if weights is None else (weights[:, sides[0]], weights[:, sides[1]])
        missing = "one of the two groups has no position"
        return difference(one, two, name, self.shared_axes, "1", self.facts, note, missing, below)

    def _matching(self) -> np.ndarray:
        """Weights that give both groups the number of the smaller one in each bin of the final probability."""
        sides = [self.member[:, self.classes.index(group)] for group in ("function", "content")]
        p, either = self.columns["probability"], sides[0] | sides[1]
        if not either.any():
            return np.zeros(len(p))
        place = np.searchsorted(np.quantile(p[either], np.arange(1, BINS) / BINS), p)
        counts = np.stack([np.bincount(place[side], minlength=BINS) for side in sides])
        share = counts.min(0) / np.maximum(counts, 1)
        return sides[0] * share[0, place] + sides[1] * share[1, place]

    def shares(self) -> list[Measurement]:
        """Share of all positions by class, and of each class how many predictions are right."""
        note, units = "of all decoded positions, whatever is kept", self.columns["unit"].tolist()
        share = PerDocument.of(units, self.is_of.astype(float))
        right = PerDocument.of(units, np.where(self.is_of, self.columns["correct"][:, None], np.nan))
        missing = "no position is of this class"
        return [
            mean(share, "share", self.axes, "probability", self.facts, note),
            mean(right, "accuracy", self.axes, "probability", self.facts, note, missing),
        ]

    def types(self) -> Measurement:
        """Distinct tokens among the positions of each class."""
        tokens, units = self.columns["token"], self.columns["unit"]
        n = np.asarray([len(np.unique(units[m])) for m in self.member.T])
        value = np.asarray([len(np.unique(tokens[m])) for m in self.member.T])
        value = np.where(n > 0, value, np.nan)
        note = "distinct tokens that were followed; grows with the number of positions"
        missing = "" if n.all() else "no position that is kept is of this class"
        counts = {"n": n, "n_items": self.member.sum(0)}
        return Measurement("types", self.axes, value, "1", **counts, note=note, missing=missing)

    def entropy(self) -> Measurement:
        """Entropy of the final prediction."""
        return self.averaged(
            self.columns["entropy"], "final_entropy", "nats", "of the last state's prediction"
        )

    def strata(self) -> list[Measurement]:
        """First onset at the least k by position in the window and by final probability."""
        first = self.onset[:, 0, 0]
        found: list[Measurement] = []
        for axis, column, edges in (
            ("position", "position", FROM_POSITION),
            ("bucket", "probability", FROM_PROBABILITY),
        ):
            place = np.searchsorted(edges, self.columns[column], side="right") - 1
            values = np.where(place[:, None] == np.arange(len(edges)), first[:, None], np.nan)
            note = f"labels are where the {column} of a stratum begins"
            found.append(self.averaged(values, f"onset_by_{column}", "1", note, {axis: np.asarray(edges)}))
        return found
