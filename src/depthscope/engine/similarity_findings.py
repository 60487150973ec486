"""Similarities of pooled vectors as measurements: all pairs of states, of one model or of two, over the same texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.jackknife import jackknife, without_groups
from depthscope.engine.measured import mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.errors import BadInput, UnknownName
from depthscope.measures.pooling import POOLINGS
from depthscope.measures.similarity import (
    cka,
    debiased_cka,
    grams,
    knn_chance,
    knn_overlap,
    procrustes_distance,
    svcca,
    svcca_kept,
)
from depthscope.results.measurement import Measurement

MISSING = "all vectors of a state are alike, or there are too few texts"
SIMILARITIES = {"cka": cka, "debiased_cka": debiased_cka}
"""Those that are cheap enough to be taken again without each group of texts."""


@dataclass(frozen=True)
class Compared:
    """Vectors of the same texts at the states of one model, or of two.

    Args:
        first, second: pooling -> [state, text, d]; the same object twice for the states of one model.
        units: of each text. neighbours, share: see `knn_overlap` and `svcca`. note: about texts and models.
    """

    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    units: Sequence[str]
    neighbours: int
    share: float
    facts: Facts
    note: str

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return len(self.units)

    @property
    def near(self) -> int:
        """How many neighbours are looked at: at most half of the other texts."""
        return max(1, min(self.neighbours, (self.texts - 1) // 2))

    @property
    def most(self) -> int:
        """How many directions SVCCA keeps at most: a fifth as many as there are texts."""
        return max(1, self.texts // 5)

    @cached_property
    def grams(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Gram matrices of both sides by pooling."""
        own = {mode: grams(states) for mode, states in self.first.items()}
        if self.second is self.first:
            return {mode: (gram, gram) for mode, gram in own.items()}
        return {mode: (gram, grams(self.second[mode])) for mode, gram in own.items()}

    @property
    def modes(self) -> dict[str, np.ndarray]:
        """The axis of poolings."""
        return {"mode": np.asarray(list(self.grams))}

    @property
    def axes(self) -> dict[str, np.ndarray]:
        """States down, states across, pooling."""
        one, two = next(iter(self.grams.values()))
        return {"state": np.arange(len(one)), "other_state": np.arange(len(two)), **self.modes}

    @cached_property
    def resampled(self) -> Mapping[str, tuple[np.ndarray, list[np.ndarray]]]:
        """Of each of SIMILARITIES the map [state, other_state, mode], and that without each group of texts."""
        left = [torch.from_numpy(kept.nonzero()[0]) for kept in without_groups(self.units)]
        return {
            name: (self._stacked(measure), [self._stacked(measure, rows) for rows in left])
            for name, measure in SIMILARITIES.items()
        }

    def _stacked(self, measure: Callable[[Tensor, Tensor], Tensor], rows: Tensor | None = None) -> np.ndarray:
        pairs = self.grams.values()
        if rows is not None:
            pairs = [(a[:, rows][:, :, rows], b[:, rows][:, :, rows]) for a, b in pairs]
        return torch.stack([measure(a, b) for a, b in pairs], -1).cpu().numpy()

    def measurement(
        self,
        name: str,
        axes: Mapping[str, np.ndarray],
        value: np.ndarray,
        ends: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
        note: str = "",
    ) -> Measurement:
        """A measurement over all texts."""
        n, items = (np.where(np.isfinite(value), c, 0) for c in (len(set(self.units)), self.texts))
        missing = MISSING if np.isnan(value).any() else ""
        said = "; ".join(part for part in (self.note, note) if part)
        return Measurement(name, axes, value, "1", *ends, n, items, said, missing)

    def from_cka(
        self,
        name: str,
        axes: Mapping[str, np.ndarray],
        measure: Callable[[np.ndarray], np.ndarray],
        note: str,
    ) -> Measurement:
        """What a function makes of the map of debiased CKA, with its interval over groups of texts."""
        value, left = self.resampled["debiased_cka"]
        found = measure(value)
        ends = jackknife(found, [measure(one) for one in left])
        return self.measurement(name, axes, found, ends, f"{note}; intervals leave out groups of texts")

    def maps(self) -> list[Measurement]:
        """CKA, debiased CKA, shared neighbours, Procrustes distance and SVCCA of all pairs."""
        kept = [svcca_kept(a, self.share, self.most).numpy() for a, _ in self.grams.values()]
        by_state = {"state": self.axes["state"], **self.modes}
        held = f"directions with {self.share:g} of the variance, at most {self.most}"
        resampled = [
            self.measurement(
                name, self.axes, value, jackknife(value, left), "intervals leave out groups of texts"
            )
            for name, (value, left) in self.resampled.items()
        ]
        apart = self._stacked(procrustes_distance)
        chance = np.asarray(knn_chance(self.texts, self.near))
        return [
            *resampled,
            self._neighbours(),
            self.measurement("procrustes_distance", self.axes, apart, note="0 to the root of 2"),
            self.measurement("svcca", self.axes, self._stacked(self._svcca), note=held),
            self.measurement("svcca_kept", by_state, np.stack(kept, -1), note=held),
            Measurement("knn_chance", {}, chance, "1", note=f"{self.near} neighbours of {self.texts} texts"),
        ]

    def _svcca(self, first: Tensor, second: Tensor) -> Tensor:
        return svcca(first, second, self.share, self.most)

    def _neighbours(self) -> Measurement:
        overlap = [knn_overlap(a, b, self.near) for a, b in self.grams.values()]
        shared = PerDocument.of(self.units, torch.stack(overlap, -1).cpu().numpy())
        note = f"{self.note}; {self.near} nearest texts"
        return mean(shared, "knn_overlap", self.axes, "1", self.facts, note)


def check(poolings: tuple[str, ...], neighbours: int, share: float) -> None:
    """Parameters that make sense.

    Raises:
        UnknownName: for an unknown pooling. BadInput: for none, for no neighbour, or a share outside (0, 1].
    """
    for pooling in poolings:
        if pooling not in POOLINGS:
            raise UnknownName("pooling", pooling, POOLINGS)
    if not poolings or neighbours < 1 or not 0 < share <= 1:
        raise BadInput(
            f"poolings={poolings}, neighbours={neighbours}, share={share}; at least one pooling and one neighbour are "
            "needed, and a share above 0, at most 1"
        )


def biased(compared: Compared, d: int) -> tuple[str, ...]:
    """That plain similarities are biased, where there are fewer texts than dimensions."""
    if compared.texts > d:
        return ()
    few = f"{compared.texts} texts are fewer than the {d} dimensions: cka, procrustes_distance and svcca are biased"
    return (f"{few} towards alike; debiased_cka and knn_overlap are not.",)
