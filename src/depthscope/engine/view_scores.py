"""Scores of views: InfoNCE, LiDAR and DiME of every state, with shuffled groups of views beside the true ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.jackknife import jackknife, without_groups
from depthscope.engine.tally import Vectors
from depthscope.measures.invariance import (
    LOSSES,
    cosines,
    dime,
    dime_2,
    infonce,
    orders,
    partner_top1,
    unit_views,
)
from depthscope.measures.lidar import lidar
from depthscope.measures.spectrum import gram_eigenvalues, renyi_entropy

VARIANTS = ("views", "shuffled")
"""Groups of views: those of each text, and of as many views of texts at random."""
WHOLE = (
    "lidar_entropy", "lidar", "lidar_normalised", "lidar_mean_eigenvalue", "lidar_corrected", "lidar_above",
    "dime", "dime_2", "dime_normalised",
)  # fmt: skip
"""Numbers of all texts together, which are no means over texts."""
MOST = 1000
"""A key is text number times this, plus the number of the view."""


@dataclass(frozen=True)
class Grouped:
    """Pooled vectors [state, text, view, d] of the texts all of whose views were read, and the unit of each text."""

    vectors: Tensor
    units: tuple[str, ...]

    @classmethod
    def of(cls, stored: Vectors, count: int) -> Grouped:
        """From vectors [item, state, d] under keys text * MOST + view."""
        text = (stored.key // np.uint64(MOST)).astype(np.int64)
        names, first, number = np.unique(text, return_index=True, return_counts=True)
        whole = np.isin(text, names[number == count])
        values = torch.from_numpy(stored.values[whole]).unflatten(0, (-1, count)).permute(2, 0, 1, 3)
        return cls(values, tuple(stored.units[first[number == count]].tolist()))

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return len(self.units)

    @property
    def depth(self) -> int:
        """How many states there are."""
        return len(self.vectors)

    @cached_property
    def unit(self) -> Tensor:
        """Vectors centred over all texts and views and scaled to length 1."""
        return torch.stack([unit_views(state) for state in self.vectors])

    def shuffled(self, seed: int) -> Grouped:
        """As many groups of views, each view of another text: every view's texts in an order of its own."""
        order = orders(self.texts, self.vectors.shape[2], seed + 1)
        mixed = [self.vectors[:, order[view], view] for view in range(len(order))]
        return Grouped(torch.stack(mixed, 2), self.units)


@dataclass(frozen=True)
class How:
    """Parameters of the scores, see the analysis."""

    temperature: float
    draws: int
    delta: float
    seed: int


def of_texts(both: Mapping[str, Grouped], how: How) -> dict[str, np.ndarray]:
    """Scores that are means over texts: loss [text, state, variant, mode], the others [text, state, variant]."""
    pairs = {name: [(state[:, 0], state[:, 1]) for state in group.unit] for name, group in both.items()}

    def each(measure: Callable[[Tensor, Tensor], Tensor]) -> np.ndarray:
        found = [torch.stack([measure(*pair) for pair in pairs[name]], 1) for name in VARIANTS]
        return torch.stack(found, 2).numpy()

    losses = [each(partial(infonce, mode=mode, temperature=how.temperature)) for mode in LOSSES]
    return {
        "loss": np.stack(losses, -1),
        "partner_top1": each(partner_top1),
        "positive_cosine": each(_positive),
        "negative_cosine": each(_negative),
    }


def _positive(first: Tensor, second: Tensor) -> Tensor:
    return cosines(first, second).positive


def _negative(first: Tensor, second: Tensor) -> Tensor:
    return cosines(first, second).negative


def of_all(both: Mapping[str, Grouped], how: How) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of all texts together, [state, variant, score], with jackknife ends where the groups are the true ones."""
    value = np.stack([_whole(both[name].unit, how) for name in VARIANTS], 1)
    true = both["views"]
    left = [_whole(true.unit[:, torch.from_numpy(kept)], how) for kept in without_groups(true.units)]
    low, high = (np.full_like(value, np.nan) for _ in "lh")
    low[:, 0], high[:, 0] = jackknife(value[:, 0], left)
    return value, low, high


def _whole(unit: Tensor, how: How) -> np.ndarray:
    """[state, score] of vectors [state, text, view, d]."""
    shuffles = orders(unit.shape[1], how.draws, how.seed)
    return np.array([_of_state(state, shuffles, how.delta) for state in unit])


def _of_state(views: Tensor, shuffles: Tensor, delta: float) -> list[float]:
    first, second = views[:, 0], views[:, 1]
    spread = lidar(views, delta)
    shared = dime(first, second, shuffles)
    entropy = torch.stack([renyi_entropy(gram_eigenvalues(side[None]))[0] for side in (first, second)]).mean()
    found = (
        spread.entropy, spread.rank, spread.normalised, spread.mean_eigenvalue, spread.corrected, spread.above,
        shared, dime_2(first, second), shared / entropy,
    )  # fmt: skip
    return [float(one) for one in found]
