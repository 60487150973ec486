"""Shards: everything that will be read, planned before anything runs. Equal plans give equal numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.needs import Needs, SweepNeed
from depthscope.materials.window import Windows

ROWS = 8
"""Windows a shard at most; a crash costs one shard."""
TOKENS = 2048
"""Token ids a shard of a material with marked positions may hold: prompts are short, eight of them are too few."""
_SWEEP_TOKENS = 256
STATES = frozenset({"L0.resid_pre", "L*.resid_post"})
"""The states: every pass measures their norms, and holds them where something reads them."""


@dataclass(frozen=True)
class Shard:
    """One batch: some windows of equal length, and what is decoded of them.

    Args:
        windows: indices into the run's windows. length: tokens read of each.
        positions: (row, position) pairs to decode. sweep: the staircase to run instead of a capture.
    """

    name: str
    windows: tuple[int, ...]
    length: int
    positions: tuple[tuple[int, int], ...] = ()
    sweep: SweepNeed | None = None

    @property
    def tokens(self) -> int:
        """Token ids the shard reads."""
        return len(self.windows) * self.length

    def serves(self, needs: Needs) -> bool:
        """True where an analysis with these needs observes the shard."""
        return self.sweep in needs.sweeps if self.sweep else needs.captures


def hashed(window: np.ndarray, position: np.ndarray, seed: int) -> np.ndarray:
    """A well mixed uint64 of (seed, window, position): the key by which positions and rows are sampled."""
    with np.errstate(over="ignore"):
        x = window.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + position.astype(np.uint64)
        x = x + np.uint64(seed % 2**63) * np.uint64(0xD1B54A32D192ED03) + np.uint64(0x632BE59BD9B4E019)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        return x ^ (x >> np.uint64(31))


def sampled(windows: Windows, n: int, seed: int) -> Mapping[int, np.ndarray]:
    """The n positions with the smallest hashes among all from position 1 on that have a next token, by window."""
    if (n, seed) not in windows.samples:
        windows.samples[n, seed] = _sampled(windows, n, seed)
    return windows.samples[n, seed]


def _sampled(windows: Windows, n: int, seed: int) -> Mapping[int, np.ndarray]:
    lengths = np.array([len(w.ids) for w in windows.items])
    window = np.repeat([w.index for w in windows.items], np.maximum(lengths - 2, 0))
    position = np.concatenate([np.arange(1, max(1, length - 1)) for length in lengths])
    chosen = np.sort(np.argsort(hashed(window, position, seed), kind="stable")[:n])
    return {int(w): position[chosen][window[chosen] == w] for w in np.unique(window[chosen])}


def capture_shards(windows: Windows, needs: Needs, rows: int, seed: int) -> list[Shard]:
    """Shards of the clean pass over all windows; windows of one length share a batch, so no padding is needed.

    Positions to decode are those that the windows mark, or else sampled by hash. `rows` bounds a shard of text.
    """
    positions = _decoded(windows, needs, seed)
    found: list[Shard] = []
    by_length = sorted(windows.items, key=lambda w: (-len(w.ids), w.index))
    for length, group in groupby(by_length, key=lambda w: len(w.ids)):
        same = [w.index for w in group]
        step = max(1, rows * TOKENS // (ROWS * length)) if windows.marked else rows
        for start in range(0, len(same), step):
            part = tuple(same[start : start + step])
            pairs = [(row, int(p)) for row, w in enumerate(part) for p in positions.get(w, ())]
            found.append(Shard(f"capture-{len(found):05d}", part, length, tuple(pairs)))
    return found


def _decoded(windows: Windows, needs: Needs, seed: int) -> Mapping[int, np.ndarray]:
    if not needs.decode:
        return {}
    if windows.marked:
        return {w.index: np.asarray(w.marks, np.int64) for w in windows.items}
    return sampled(windows, needs.positions, seed) if needs.positions else {}


def sweep_shards(windows: Windows, need: SweepNeed, seed: int, number: int) -> list[Shard]:
    """Shards of one staircase: all windows whole, or hash-chosen ones cut short, of other documents where possible."""
    lengths = {w.index: len(w.ids) for w in windows.items}
    chosen: Sequence[int] = list(lengths)
    if need.tokens:
        length = need.tokens // need.documents
        chosen = _spread(windows, need.documents, length, seed)
        lengths = {k: min(length, own) for k, own in lengths.items()}
    found: list[Shard] = []
    for same_length, group in groupby(
        sorted(chosen, key=lambda w: (-lengths[w], w)), key=lambda w: lengths[w]
    ):
        same, rows = list(group), max(1, _SWEEP_TOKENS // same_length)
        for start in range(0, len(same), rows):
            name = f"sweep{number}-{len(found):05d}"
            found.append(Shard(name, tuple(same[start : start + rows]), same_length, (), need))
    return found


def _spread(windows: Windows, count: int, length: int, seed: int) -> Sequence[int]:
    """Windows in hash order, one a document first; long enough ones before shorter ones."""
    index = np.array([w.index for w in windows.items])
    key = hashed(index, np.zeros_like(index), seed)
    order = sorted(range(len(index)), key=lambda k: (len(windows.items[k].ids) < length, int(key[k])))
    seen: set[str] = set()
    fresh = [
        k for k in order if not (windows.items[k].document in seen or seen.add(windows.items[k].document))
    ]
    rest = [k for k in order if k not in set(fresh)]
    return [int(index[k]) for k in (fresh + rest)[:count]]


def planned(
    anatomy: Anatomy, windows: Windows, needs: Needs, itemsize: int, seed: int, budget: int
) -> list[Shard]:
    """All shards of one pass, in order: the capture, then each staircase."""
    longest = max(len(w.ids) for w in windows.items)
    rows = rows_that_fit(anatomy, needs, longest, itemsize, budget)
    found = capture_shards(windows, needs, rows, seed) if needs.captures else []
    for number, need in enumerate(sorted(needs.sweeps)):
        found += sweep_shards(windows, need, seed, number)
    return found


def rows_that_fit(anatomy: Anatomy, needs: Needs, length: int, itemsize: int, budget: int) -> int:
    """Windows a batch so that everything read stays within the budget, at most ROWS; depends on sizes only."""
    sites = sum(len(_safe_expand(anatomy, pattern)) for pattern in needs.sites | STATES)
    held = (1 + needs.values) if needs.every_query or needs.own_queries else 0
    width = sites * anatomy.d_model + held * anatomy.n_layers * anatomy.n_kv_heads * anatomy.d_head
    return int(max(1, min(ROWS, budget // max(1, width * length * itemsize))))


def _safe_expand(anatomy: Anatomy, pattern: str) -> Sequence[object]:
    return range(anatomy.n_layers) if pattern.startswith("L*.") else (pattern,)
