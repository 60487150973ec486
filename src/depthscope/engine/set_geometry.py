"""The shape of a set of vectors, one a text: every metric of `dataset_geometry` at one state, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.engine.jackknife import jackknife, without_groups
from depthscope.errors import UnknownName
from depthscope.measures.geometry import cosine_anisotropy, outlier_dimensions, self_cluster, uniformity
from depthscope.measures.reference import clamped_spectrum, paired_spectrum, reference_spectrum
from depthscope.measures.spectrum import (
    MODES,
    effective_rank,
    gram_eigenvalues,
    log_bound,
    participation_ratio,
    prepare,
    renyi_entropy,
)
from depthscope.measures.width import CONVENTIONS, decay, rankme, stable_rank, two_nn

REFERENCES = ("reference", "batch2", "tokenwise")
"""Modes that only reproduce published code; see `measures.reference`."""
BY_MODE = ("dataset_entropy", "effective_rank", "participation_ratio")
ALONE = (
    "rankme", "nesum", "spectral_anisotropy", "cosine_anisotropy", "self_cluster", "uniformity",
    "outlier_dimensions", "outlier_share", "kurtosis",
)  # fmt: skip
RANGES = ("11-50", "1-half")
FITTED = ("decay", "decay_fit")
HALVES = 5
"""Random splits in halves, for intervals of what neighbours say."""
SMALLEST = 16
"""Texts of the smallest subsample."""
BLOCKS = 4
Values = dict[str, np.ndarray]
Interval = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Value, lower and upper end."""


@dataclass(frozen=True)
class Sets:
    """What is taken of the vectors of one state.

    Args:
        modes: of spectra. alpha, normalisation: of the dataset entropy. units: the document of each text.
    """

    modes: tuple[str, ...]
    alpha: float
    normalisation: str
    units: tuple[str, ...]
    seed: int

    def measured(self, vectors: Tensor, tokenwise: Tensor | None) -> dict[str, Interval]:
        """Every metric of the vectors [text d] with its interval; `tokenwise` are those of the mode of that name."""
        vectors = vectors.double()
        without = without_groups(self.units)
        every = self._described(vectors, tokenwise)
        left = [
            self._described(vectors[kept], None if tokenwise is None else tokenwise[kept])
            for kept in map(torch.from_numpy, without)
        ]
        found = {}
        for name, value in every.items():
            low, high = jackknife(value, [each[name] for each in left])
            high = np.minimum(high, 1.0) if name == "decay_fit" else high
            found[name] = tuple(x.reshape(-1 if name not in ALONE else ()) for x in (value, low, high))
        found["intrinsic_dimension"] = self._dimension(vectors)
        found["entropy_by_count"] = self._by_count(vectors)
        found["spectrum"] = self._spectrum(vectors)
        return found

    def _described(self, vectors: Tensor, tokenwise: Tensor | None) -> Values:
        wanted = dict.fromkeys((*self.modes, "uncentred", "centred"))
        spectra = {mode: spectrum_of_mode(vectors, tokenwise, mode) for mode in wanted}
        by_mode = [self._of_mode(vectors, spectra[mode], mode) for mode in self.modes]
        found = {name: np.asarray([each[k] for each in by_mode]) for k, name in enumerate(BY_MODE)}
        raw, centred = spectra["uncentred"], spectra["centred"]
        outlying = outlier_dimensions(vectors)
        alone = (
            rankme(raw.sqrt()), stable_rank(centred), centred.amax(), cosine_anisotropy(vectors),
            self_cluster(vectors), uniformity(vectors), *outlying,
        )  # fmt: skip
        found |= {name: np.asarray([float(value)]) for name, value in zip(ALONE, alone, strict=True)}
        half = max(2, vectors.shape[-1] // 2)
        lines = [decay(centred, 11, 50), decay(centred, 1, half)]
        found["decay"] = np.asarray([float(line.alpha) for line in lines])
        found["decay_fit"] = np.asarray([float(line.r_squared) for line in lines])
        return found

    def _of_mode(self, vectors: Tensor, p: Tensor, mode: str) -> tuple[float, float, float]:
        """BY_MODE from a spectrum; NaN with fewer than two vectors that differ as the mode sees them."""
        counted = (prepare(vectors[None], _all(vectors), mode)[0] if mode in MODES else vectors) != 0
        n = counted.any(-1).sum()
        bound = log_bound(n, vectors.shape[-1], self.normalisation, centred=mode not in ("uncentred", "unit"))
        if n < 2 or bound <= 0:
            return math.nan, math.nan, math.nan
        entropy = renyi_entropy(p, self.alpha) / bound
        return float(entropy), float(effective_rank(p)), float(participation_ratio(p))

    def _dimension(self, vectors: Tensor) -> Interval:
        """TwoNN by both conventions; +- from random halves of the texts: (a - b)^2 / 4 is the variance of the whole."""
        value = np.asarray([float(two_nn(vectors, convention=c)) for c in CONVENTIONS])
        random, n = np.random.default_rng(self.seed), len(vectors)
        squares = []
        for _ in range(HALVES):
            order = torch.from_numpy(random.permutation(n))
            halves = [
                np.asarray([float(two_nn(vectors[side], convention=c)) for c in CONVENTIONS])
                for side in (order[: n // 2], order[n // 2 :])
            ]
            squares.append((halves[0] - halves[1]) ** 2 / 4)
        from scipy.stats import t

        spread = float(t.ppf(0.975, HALVES)) * np.sqrt(np.mean(squares, 0))
        return value, value - spread, value + spread

    def _by_count(self, vectors: Tensor) -> Interval:
        """Entropy of subsamples, mode `wei`: mean over disjoint blocks, and their smallest and largest."""
        found = []
        for size in counts(len(vectors)):
            blocks = [vectors[k * size : (k + 1) * size] for k in range(min(BLOCKS, len(vectors) // size))]
            values = [self._of_mode(b, spectrum_of_mode(b, None, "wei"), "wei")[0] for b in blocks]
            found.append((np.mean(values), min(values), max(values)))
        value, low, high = (np.asarray(c) for c in zip(*found, strict=True))
        return value, low, high

    def _spectrum(self, vectors: Tensor) -> Interval:
        """Shares of the centred spectrum at some places, largest first."""
        p = _spectrum_of(vectors, "centred")
        at = places(len(vectors), vectors.shape[-1])
        value = np.asarray([float(p[k - 1]) for k in at])
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)


def spectrum_of_mode(
    vectors: Float[Tensor, "n d"], tokenwise: Float[Tensor, "n d"] | None, mode: str
) -> Float[Tensor, " side"]:
    """Normalised eigenvalues of a set by one of `MODES` or `REFERENCES`.

    Raises:
        UnknownName: for another mode.
    """
    if mode in MODES:
        return _spectrum_of(vectors, mode)
    if mode == "reference":
        return reference_spectrum(vectors[None], _all(vectors))[0]
    if mode == "batch2":
        return paired_spectrum(vectors)
    if mode == "tokenwise" and tokenwise is not None:
        return clamped_spectrum(tokenwise[None], _all(tokenwise))[0]
    raise UnknownName("mode of a set", mode, (*MODES, *REFERENCES))


def counts(n: int) -> tuple[int, ...]:
    """Sizes of subsamples: doubling from SMALLEST, then all n."""
    sizes = [SMALLEST << k for k in range(n.bit_length()) if SMALLEST << k < n]
    return (*sizes, n)


def places(n: int, d: int) -> tuple[int, ...]:
    """Places in a spectrum of n vectors of width d, counted from 1: about eight a factor of ten."""
    last = min(n, d)
    return tuple(sorted({min(last, round(10 ** (k / 8))) for k in range(8 * len(str(last)) + 1)}))


def _spectrum_of(vectors: Tensor, mode: str) -> Tensor:
    return gram_eigenvalues(prepare(vectors.unsqueeze(0), _all(vectors), mode))[0]


def _all(vectors: Tensor) -> Bool[Tensor, "1 n"]:
    return torch.ones(1, len(vectors), dtype=torch.bool, device=vectors.device)
