"""Dataset geometry: the shape of a set of texts, one vector a text, at each layer.

Question: At which depth do the vectors of different texts fill most directions, and how many are these?

Method: Each window becomes one vector a state: its token vectors, pooled. dataset_entropy = entropy of the spectrum
of all vectors over ln of the largest number of directions (modes: wei = centred unit rows over the whole set,
uncentred, unit, centred); effective_rank and participation_ratio of the same spectra; rankme of the raw vectors;
nesum = sum of the covariance's eigenvalues over the largest, spectral_anisotropy its inverse; decay = minus the slope
of ln lambda_i over ln i (alpha-ReQ), decay_fit its R^2; cosine_anisotropy = mean cosine of pairs; self_cluster and
uniformity of the directions; intrinsic_dimension = TwoNN; outlier_dimensions, outlier_share and kurtosis of single
dimensions. entropy_by_count = the entropy of subsamples; spectrum = shares of the covariance's eigenvalues.
Intervals: leaving out groups of documents; for intrinsic_dimension five random halves.

How to read: Compare states, not numbers: all of these depend on how many texts there are, so read entropy_by_count
before comparing runs. A high cosine_anisotropy with a high dataset_entropy of mode wei means one shared direction and
much variety around it.

What misleads: A few texts of one kind, one long dimension or one massive token can make any of these curves: look at
outlier_share and at the pooling mean_no_massive. None of them says how good a layer is for a task; signs of that
correlation differ from model to model. The modes reference, batch2 and tokenwise repeat quirks of published code.

Source: Skean et al. 2025, Layer by Layer (arXiv 2502.02013); Garrido et al. 2023 (RankMe, 2210.02885); Agrawal et al.
2022 (alpha-ReQ); Razzhigaev et al. 2024 (2311.05928); Ethayarajh 2019; Wang and Isola 2020; Facco et al. 2017 (TwoNN).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.pooled import final_normed
from depthscope.engine.set_geometry import (
    ALONE,
    BY_MODE,
    FITTED,
    RANGES,
    REFERENCES,
    Interval,
    Sets,
    counts,
    places,
)
from depthscope.engine.tally import Sum, Tally, Vectors
from depthscope.engine.view import View
from depthscope.measures.pooling import POOLINGS, pool
from depthscope.measures.spectrum import MODES, NORMALISATIONS, prepare
from depthscope.measures.width import CONVENTIONS
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.threads import spread

NORMED, TOKENWISE = "normed_", "tokenwise"
MISSING = "fewer than two different vectors, or too few texts for this metric"
EXPLAINED = {
    "nesum": "sum of the covariance's eigenvalues over the largest",
    "spectral_anisotropy": "largest eigenvalue of the covariance over their sum, 1 / nesum",
    "outlier_dimensions": "dimensions whose root mean square exceeds 6 times the median one",
    "outlier_share": "share of all squares that the largest dimension holds",
    "kurtosis": "excess kurtosis, the largest over dimensions",
    "rankme": "raw vectors",
    "intrinsic_dimension": "TwoNN; interval from five random halves",
    "entropy_by_count": "mode wei; mean, smallest and largest of up to four disjoint subsamples",
    "decay": "minus the slope of ln eigenvalue over ln place, covariance",
}


@dataclass(frozen=True)
class DatasetGeometry:
    """Spectra, anisotropies and dimensions of pooled vectors.

    Args:
        pooling: how the tokens of a window become one vector; see `measures.pooling`.
        modes: of spectra: wei, uncentred, unit, centred; reference, batch2 and tokenwise repeat published code.
        alpha: order of the dataset entropy. normalisation: what it is divided by.
        texts: windows that are used at most, chosen by hash.
        final_norm: everything once more of vectors pooled after the model's final norm, as normed_*.
    """

    pooling: str = "mean"
    modes: tuple[str, ...] = MODES
    alpha: float = 1.0
    normalisation: str = "maxEntropy"
    texts: int = 2000
    final_norm: bool = False

    def __post_init__(self) -> None:
        check_names(self, pooling=POOLINGS, normalisation=NORMALISATIONS, modes=(*MODES, *REFERENCES))
        check_ranges(self, alpha=at_least(0, what="order of an entropy"), texts=at_least(2))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states."""
        del anatomy
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One vector a window and state; the key is a hash of the window's ids, so equal texts count once."""
        del given
        keys = np.asarray([_hashed(window.ids) for window in seen.windows], np.uint64)
        found = {"vectors": pool(seen.states, batch.mask, self.pooling)}
        if self.final_norm:
            normed = (pool(final_normed(model, state), batch.mask, self.pooling) for state in seen.states)
            found["normed_vectors"] = torch.stack(list(normed))
        if TOKENWISE in self.modes:
            found[TOKENWISE] = _tokenwise(seen.states, batch.mask)
            if self.final_norm:
                found[NORMED + TOKENWISE] = _tokenwise(
                    torch.stack([final_normed(model, state) for state in seen.states]), batch.mask
                )
        stored = {
            name: Vectors.of(keys, seen.units, values.transpose(0, 1).float().cpu().numpy())
            for name, values in found.items()
        }
        return Tally({**stored, "windows": Sum(np.asarray(float(len(keys))), np.asarray(1))})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """A curve over states for each metric, how the entropy grows with the number of texts, and duplicates."""
        stored = part(total, "vectors", Vectors)
        duplicates = float(part(total, "windows", Sum).total) - len(stored.key)
        kept = np.flatnonzero((stored.values != 0).any((1, 2)))[: self.texts]
        found = list(self._curves(total, "", kept, facts))
        if self.final_norm:
            found += self._curves(total, NORMED, kept, facts)
        found.append(
            Measurement("duplicates", {}, np.asarray(duplicates), "1", note="texts that were read before")
        )
        few = f"{len(kept)} different texts; spectra of so few say little about a layer of width {facts.d_model}."
        notes = (few,) if len(kept) < 64 else ()
        return Findings({m.name: m for m in found}, notes=notes)

    def _curves(self, total: Tally, prefix: str, kept: np.ndarray, facts: Facts) -> Iterator[Measurement]:
        stored = part(total, f"{prefix}vectors", Vectors)
        by_state = torch.from_numpy(stored.values[kept]).transpose(0, 1)
        tokenwise = (
            torch.from_numpy(part(total, prefix + TOKENWISE, Vectors).values[kept]).transpose(0, 1)
            if TOKENWISE in self.modes
            else [None] * len(by_state)
        )
        units = tuple(map(str, stored.units[kept]))
        sets = Sets(self.modes, self.alpha, self.normalisation, units, facts.seed)
        measured = spread(lambda each: sets.measured(*each), list(zip(by_state, tokenwise, strict=True)))
        for name in measured[0]:
            yield self._measurement(prefix, name, [each[name] for each in measured], units, facts)

    def _measurement(
        self, prefix: str, name: str, found: list[Interval], units: tuple[str, ...], facts: Facts
    ) -> Measurement:
        value, low, high = (np.stack([each[k] for each in found]) for k in range(3))
        n = np.where(np.isfinite(value), len(set(units)), 0)
        items = np.where(np.isfinite(value), len(units), 0)
        where = "after" if prefix else "before"
        said = f"{len(units)} texts, pooling {self.pooling}, states {where} the final norm"
        if name == "dataset_entropy":
            said += f"; order {self.alpha:g}, {self.normalisation}"
        said += f"; {EXPLAINED[name]}" if name in EXPLAINED else ""
        unit = "nats" if name == "dataset_entropy" and self.normalisation == "raw" else "1"
        axes = {**states(facts), **self._axes(name, len(units), facts.d_model)}
        return Measurement(prefix + name, axes, value, unit, low, high, n, items, said, MISSING)

    def _axes(self, name: str, n: int, d: int) -> dict[str, np.ndarray]:
        if name in BY_MODE:
            return {"mode": np.asarray(self.modes)}
        if name in FITTED:
            return {"definition": np.asarray(RANGES)}
        if name == "intrinsic_dimension":
            return {"definition": np.asarray(CONVENTIONS)}
        if name == "entropy_by_count":
            return {"kept": np.asarray(counts(n))}
        if name == "spectrum":
            return {"k": np.asarray(places(n, d))}
        assert name in ALONE
        return {}


def _tokenwise(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the centred unit token vectors of each text: what the first published code pooled."""
    return torch.stack([pool(prepare(state, mask, "wei"), mask, "mean") for state in states])


def _hashed(ids: Sequence[int]) -> int:
    """64 bits of a window's ids."""
    return int.from_bytes(blake2b(np.asarray(ids, np.int64).tobytes(), digest_size=8).digest(), "little")
