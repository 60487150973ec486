"""Principal directions of states, fitted on windows of their own: sums by group, spectra with jackknife intervals.

Rows are the states at plain positions, each divided by its root mean square: what the next block reads. Sums of each
group of units stay apart, so that everything can be computed again without one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthscope.engine.shard import hashed, sweep_shards
from depthscope.engine.view import View
from depthscope.materials.window import Window
from depthscope.measures.residual import sink_mask
from depthscope.measures.spectrum import participation_ratio
from depthscope.measures.width import entropy_rank, held_rank, stable_rank, two_nn
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.threads import one_thread

GROUPS = 8
TOKENS = 2048
NEIGHBOURS = 1500
"""Rows among which nearest neighbours are searched."""
SPECTRUM = ("participation_ratio", "entropy_rank", "stable_rank", "k90", "k99")


@dataclass(frozen=True)
class Directions:
    """Fitted directions of some states, and what their spectra say.

    Args:
        mean: of the rows, [state d]. vectors: columns are principal directions, largest variance first, [state d d].
        ranks: SPECTRUM of all rows, then of all but each group, [1 + group, state, 5].
        neighbours: intrinsic dimension in the same order, [1 + group, state].
        fresh: share of the energy of the next block's write outside the directions that hold 90 % of the variance, in
            the same order, [1 + group, state]; NaN at the last state.
        tokens, units: rows and independent units behind it. apart: whether the windows were read for nothing else.
    """

    mean: Tensor
    vectors: Tensor
    ranks: np.ndarray
    neighbours: np.ndarray
    fresh: np.ndarray
    tokens: int
    units: int
    apart: bool


_FITTED: WeakKeyDictionary[nn.Module, tuple[object, Directions]] = WeakKeyDictionary()
"""The last fit of each network: shards of one pass ask for the same."""


def directions(seen: View, states: Sequence[int], tokens: int) -> Directions:
    """The directions of some states of the pass's model, from about `tokens` positions of windows nobody replays."""
    model, windows = seen.seen.model, seen.whole
    assert windows is not None
    key = (windows.hash, seen.seed, tuple(states), tokens, seen.sweep)
    known = _FITTED.get(model.net)
    if known is None or known[0] != key:
        known = _FITTED[model.net] = (key, _fitted(model, seen, states, tokens))
    return known[1]


def _fitted(model: Model, seen: View, states: Sequence[int], tokens: int) -> Directions:
    windows, need = seen.whole, seen.sweep
    assert windows is not None
    assert need is not None
    replayed = {w for shard in sweep_shards(windows, need, seen.seed, 0) for w in shard.windows}
    free = [w for w in windows.items if w.index not in replayed]
    chosen = _chosen(free or list(windows.items), tokens, seen.seed)
    units = dict(zip((w.index for w in windows.items), windows.units()[1], strict=True))
    names = sorted({units[w.index] for w in chosen})
    group = {w.index: names.index(units[w.index]) % GROUPS for w in chosen}
    sums = _Sums(model, states, min(GROUPS, len(names)))
    keep = min(1.0, NEIGHBOURS / sum(len(w.ids) for w in chosen))
    for length, same in groupby(
        sorted(chosen, key=lambda w: (-len(w.ids), w.index)), key=lambda w: len(w.ids)
    ):
        rows = list(same)
        step = max(1, TOKENS // length)
        for start in range(0, len(rows), step):
            sums.take(rows[start : start + step], group, keep, seen.seed)
    return sums.directions(len(names), bool(free))


def _chosen(windows: Sequence[Window], tokens: int, seed: int) -> list[Window]:
    """Windows in hash order until they hold enough positions."""
    index = np.array([w.index for w in windows])
    order = np.argsort(hashed(index, np.ones_like(index), seed), kind="stable")
    found, held = [], 0
    for k in order:
        if held < tokens:
            found.append(windows[k])
            held += len(windows[k].ids)
    return found


class _Sums:
    """Counts, sums and products of the rows of each group, and a sample of rows for neighbours."""

    def __init__(self, model: Model, states: Sequence[int], groups: int) -> None:
        self.model, self.states = model, tuple(states)
        d, n = model.anatomy.d_model, len(self.states)
        new = torch.zeros
        self.count, self.total = new(groups), new(groups, n, d)
        self.outer, self.written = new(groups, n, d, d), new(groups, n, d, d)
        self.sample: list[Tensor] = []
        self.member: list[Tensor] = []

    def take(self, windows: Sequence[Window], group: dict[int, int], keep: float, seed: int) -> None:
        """Add one batch of windows of equal length."""
        seen = run(self.model, Batch.of_ids([w.ids for w in windows]), read=["L0.resid_pre", "L*.resid_post"])
        states = seen.states().float()
        plain = ~sink_mask(torch.linalg.vector_norm(states, dim=-1).transpose(0, 1))
        index = np.array([w.index for w in windows])[:, None]
        keys = hashed(index, np.arange(states.shape[2])[None], seed)
        drawn = torch.from_numpy(keys < np.uint64(keep * (2**64 - 2**12))).to(plain.device) & plain
        rms = states.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)
        for row, window in enumerate(windows):
            self._add(group[window.index], states[:, row, plain[row]], rms[:, row, plain[row]])
            picked = (
                states[list(self.states)][:, row, drawn[row]] / rms[list(self.states)][:, row, drawn[row]]
            )
            self.sample.append(picked.cpu())
            self.member.append(torch.full((picked.shape[1],), group[window.index]))

    def _add(self, group: int, states: Tensor, rms: Tensor) -> None:
        self.count[group] += states.shape[1]
        for place, s in enumerate(self.states):
            rows = states[s] / rms[s]
            self.total[group, place] += rows.sum(0).cpu()
            self.outer[group, place] += (rows.T @ rows).cpu()
            if s + 1 < len(states):
                write = (states[s + 1] - states[s]) / rms[s]
                self.written[group, place] += (write.T @ write).cpu()

    def directions(self, units: int, apart: bool) -> Directions:
        """Eigenvectors of all groups together, and every statistic with all and without each group."""
        groups = len(self.count)
        kept = [list(range(groups)), *([g for g in range(groups) if g != out] for out in range(groups))]
        sample, member = torch.cat(self.sample, 1), torch.cat(self.member)
        ranks = np.full((len(kept), len(self.states), len(SPECTRUM)), np.nan)
        neighbours, fresh = np.full(ranks.shape[:2], np.nan), np.full(ranks.shape[:2], np.nan)
        mean, vectors = torch.zeros_like(self.total[0]), torch.zeros_like(self.outer[0])
        for k, some in enumerate(kept if groups > 2 else kept[:1]):
            rows = sample[:, torch.isin(member, torch.tensor(some))]
            for place, s in enumerate(self.states):
                middle, covariance = self._covariance(some, place)
                if k == 0:
                    mean[place] = middle
                    vectors[place] = _solved(covariance)[1].float()
                ranks[k, place] = _ranks(_values(covariance))
                neighbours[k, place] = float(two_nn(rows[place]))
                held = ranks[0, place, SPECTRUM.index("k90")]
                if s < self.model.anatomy.n_layers and np.isfinite(held):
                    written = self.written[some, place].sum(0)
                    fresh[k, place] = _outside(written, vectors[place], int(held))
        return Directions(mean, vectors, ranks, neighbours, fresh, int(self.count.sum()), units, apart)

    def _covariance(self, groups: Sequence[int], place: int) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the rows of some groups; centred in float64."""
        n = self.count[list(groups)].sum().double()
        mean = self.total[list(groups), place].double().sum(0) / n
        outer = self.outer[list(groups), place].double().sum(0) / n
        return mean.float(), outer - torch.outer(mean, mean)


def _solved(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, largest first."""
    with one_thread():
        values, axes = torch.linalg.eigh(covariance)
    return values.flip(-1), axes.flip(-1)


def _values(covariance: Tensor) -> Tensor:
    with one_thread():
        return torch.linalg.eigvalsh(covariance).flip(-1).clamp_min(0)


def _ranks(p: Float[Tensor, " d"]) -> list[float]:
    if float(p.sum()) == 0:
        return [np.nan] * len(SPECTRUM)
    found = (participation_ratio(p), entropy_rank(p), stable_rank(p), held_rank(p, 0.9), held_rank(p, 0.99))
    return [float(value) for value in found]


def _outside(written: Tensor, axes: Tensor, k: int) -> float:
    """Share of a product matrix's trace outside the first k axes; NaN where nothing was written."""
    total = float(written.trace())
    inside = float(((written @ axes[:, :k]) * axes[:, :k]).sum())
    return 1 - inside / total if total > 0 else float("nan")
