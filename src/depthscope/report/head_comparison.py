"""Atlases of heads side by side: of one architecture head by head, of any two by depth, labels and score profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthscope.errors import BadInput
from depthscope.measures.head_overlap import Overlap, matched_heads, overlap
from depthscope.measures.head_pairing import depth_apart, index_correlation, values_apart
from depthscope.results.result import Result
from depthscope.store.run import Run

ATLAS = "head_atlas"
GRID = ("layer", "head")
DERIVED = ("_errors", "_low")
"""Endings of scores that repeat another one: no part of a profile."""
DRAWS = ((10**5, 100), (4 * 10**5, 39), (10**12, 19))
"""Up to so many pairs of heads, so many random orders: a pairing takes time with the cube of the heads."""


@dataclass(frozen=True)
class Heads:
    """The atlas of one run.

    Args:
        scores: score -> [layer, head], NaN where not measured. units: of the scores. roles: label -> the same, 1 or 0.
    """

    run: str
    scores: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    roles: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, run: str, found: Result) -> Heads:
        """The scores and labels of an atlas; scores that nobody measured are left out."""
        every = {n: m for n, m in found.findings.measurements.items() if tuple(m.axes) == GRID}
        known = {n: m for n, m in every.items() if np.isfinite(m.value).any()}
        role = found["role"]
        labels = [str(name) for name in np.asarray(role.axes["role"])]
        roles = dict(zip(labels, role.value, strict=True))
        return cls(run, {n: m.value for n, m in known.items()}, {n: m.unit for n, m in known.items()}, roles)

    @property
    def size(self) -> tuple[int, int]:
        """Layers and heads a layer."""
        return np.shape(next(iter(self.roles.values())))  # pyright: ignore[reportReturnType]

    def labels(self, head: int) -> tuple[str, ...]:
        """The labels of a head."""
        return tuple(name for name, has in self.roles.items() if has.ravel()[head] == 1)


@dataclass(frozen=True)
class ScoreApart:
    """One score in two models.

    Args:
        means: over the heads of each. level: earth mover's distance of all values, in the score's unit.
        depth, depth_null, depth_p: of where in depth it is, see `measures.head_pairing.depth_apart`.
        correlation, low, high, n: over heads of equal index; NaN and 0 where the models are of different sizes.
    """

    score: str
    unit: str
    means: tuple[float, float]
    level: float
    depth: float
    depth_null: float
    depth_p: float
    correlation: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0


@dataclass(frozen=True)
class LabelApart:
    """One label in two models: heads that have it, their share of those decided, their mean relative depth.

    Args:
        shared: of equal index, where the models are of one size.
    """

    label: str
    heads: tuple[int, int]
    share: tuple[float, float]
    depth: tuple[float, float]
    shared: Overlap | None = None


@dataclass(frozen=True)
class Matched:
    """Heads of two models paired by their profiles; see `measures.head_overlap.matched_heads`.

    Args:
        scores: that profiles are made of. pairs: [pair, 2] numbers of heads. depth: correlation over pairs of their
            relative depths, which no profile holds.
    """

    scores: tuple[str, ...]
    pairs: np.ndarray
    correlation: float
    p: float
    p_given: float
    depth: float


@dataclass(frozen=True)
class HeadsApart:
    """Two atlases.

    Args:
        matched: None where it cannot be done, and `unmatched` says why.
    """

    first: Heads
    second: Heads
    scores: tuple[ScoreApart, ...]
    labels: tuple[LabelApart, ...]
    matched: Matched | None
    unmatched: str = ""

    @property
    def aligned(self) -> bool:
        """Whether both have as many layers and heads, so that heads of equal index can be compared."""
        return self.first.size == self.second.size


def compare_heads(runs: Sequence[Run], names: Sequence[str]) -> tuple[HeadsApart, ...]:
    """The atlas of each further run against that of the first; nothing where `why_no_heads` has a reason."""
    if why_no_heads(runs, names) or not all(ATLAS in run for run in runs):
        return ()
    first, *others = (Heads.of(name, run[ATLAS]) for name, run in zip(names, runs, strict=True))
    return tuple(apart(first, other) for other in others)


def why_no_heads(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Why atlases that are there are not compared; "" where they are, and where no run has one."""
    without = [name for name, run in zip(names, runs, strict=True) if ATLAS not in run]
    if len(without) == len(runs):
        return ""
    if without:
        return f"heads are not compared, {', '.join(without)} has no {ATLAS}: run it there too"
    atlases = [Heads.of(name, run[ATLAS]) for name, run in zip(names, runs, strict=True)]
    for other in atlases[1:]:
        if not set(atlases[0].scores) & set(other.scores):
            held = "; ".join(
                f"{one.run} has {', '.join(one.scores) or 'none'}" for one in (atlases[0], other)
            )
            return (
                f"heads are not compared, their atlases share no score ({held}): give both the same analyses"
            )
    return ""


def apart(first: Heads, second: Heads, draws: int = 0) -> HeadsApart:
    """Two atlases side by side; `draws` random orders behind the p of a matching, 0: as many as their sizes allow."""
    pairs = int(np.prod(first.size) * np.prod(second.size))
    draws = draws or next(number for most, number in DRAWS if pairs <= most)
    shared = [name for name in first.scores if name in second.scores]
    labels = tuple(_label(first, second, name) for name in first.roles if name in second.roles)
    try:
        matched, why = _matched(first, second, shared, draws), ""
    except BadInput as error:
        matched, why = None, str(error)
    return HeadsApart(first, second, _scores(first, second, shared), labels, matched, why)


def _scores(first: Heads, second: Heads, shared: Sequence[str]) -> tuple[ScoreApart, ...]:
    aligned = first.size == second.size and bool(shared)
    index = index_correlation(*(_profiles(one, shared) for one in (first, second))) if aligned else None
    found: list[ScoreApart] = []
    for k, name in enumerate(shared):
        a, b = first.scores[name], second.scores[name]
        where = depth_apart(a, b)
        means = (float(np.nanmean(a)), float(np.nanmean(b)))
        one = ScoreApart(name, first.units[name], means, values_apart(a.ravel(), b.ravel()), *where)
        if index is not None:
            value, low, high = (float(part[k]) for part in index[:3])
            one = replace(one, correlation=value, low=low, high=high, n=int(index.n[k]))
        found.append(one)
    return tuple(found)


def _profiles(one: Heads, names: Sequence[str]) -> np.ndarray:
    return np.stack([one.scores[name].ravel() for name in names])


def _label(first: Heads, second: Heads, name: str) -> LabelApart:
    both = [one.roles[name] for one in (first, second)]
    heads = tuple(int((v == 1).sum()) for v in both)
    decided = [int(np.isfinite(v).sum()) for v in both]
    share = tuple(h / d if d else np.nan for h, d in zip(heads, decided, strict=True))
    depth = tuple(_mean_depth(v) for v in both)
    shared = overlap(both[0].ravel(), both[1].ravel()) if first.size == second.size and all(decided) else None
    return LabelApart(name, heads, share, depth, shared)  # pyright: ignore[reportArgumentType]


def _mean_depth(has: np.ndarray) -> float:
    layers = np.argwhere(has == 1)[:, 0]
    return float(layers.mean() / max(1, len(has) - 1)) if len(layers) else np.nan


def _matched(first: Heads, second: Heads, shared: Sequence[str], draws: int) -> Matched:
    """Over heads with a score at all and scores that all of these have."""
    names = [name for name in shared if not name.endswith(DERIVED)]
    profiles = [_profiles(one, names).T if names else np.zeros((0, 0)) for one in (first, second)]
    there = [np.flatnonzero(np.isfinite(p).any(1)) for p in profiles]
    kept = [p[rows] for p, rows in zip(profiles, there, strict=True)]
    usable = np.all([np.isfinite(p).all(0) & (p.std(0) > 0) for p in kept], 0) if names else np.zeros(0, bool)
    found = matched_heads(kept[0], kept[1], draws)
    pairs = np.stack([rows[found.pairs[:, k]] for k, rows in enumerate(there)], 1)
    one, other = _depth_of(pairs[:, 0], first), _depth_of(pairs[:, 1], second)
    together = float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) > 0 and np.ptp(other) > 0 else np.nan
    scores = tuple(name for name, fine in zip(names, usable, strict=True) if fine)
    return Matched(scores, pairs, found.correlation, found.p, found.p_given, together)


def _depth_of(heads: np.ndarray, one: Heads) -> np.ndarray:
    layers, each = one.size
    return heads // each / max(1, layers - 1)
