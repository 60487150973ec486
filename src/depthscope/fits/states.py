"""The states a fit learns from: documents split by hash, batches of equal length, sinks left out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.materials.window import Window, Windows
from depthscope.measures.residual import sink_mask
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import Seen, run

ROWS = 8
"""Windows a batch."""
STATES = ("L0.resid_pre", "L*.resid_post")


@dataclass(frozen=True)
class Split:
    """Windows in three parts that share no unit: to fit on, to choose by, and to judge on.

    Args:
        kind: what a unit is: "documents", or "windows" where there are fewer than eight documents.
        unit_of: the unit of each window, by its index.
    """

    train: tuple[Window, ...]
    validation: tuple[Window, ...]
    held_out: tuple[Window, ...]
    kind: str
    unit_of: tuple[str, ...]


def split(windows: Windows, share: float, seed: int) -> Split:
    """Units in the order of a hash of their names: the first are held out, the next validate, the rest train.

    Args:
        share: part of the units that is held out, and as much again for validation; at least one unit each.

    Raises:
        BadInput: for a share outside (0, 0.4], or fewer than three units.
    """
    if not 0 < share <= 0.4:
        raise BadInput(f"held_out={share}; it is a share of the documents above 0 and at most 0.4")
    kind, units = windows.units()
    order = sorted(set(units), key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    if len(order) < 3:
        raise BadInput(
            f"{windows.source} gives {len(order)} {kind}; a fit needs at least 3, to train, to validate and to hold "
            "out; give more text or a smaller --window"
        )
    part = max(1, min(math.ceil(share * len(order)), (len(order) - 1) // 2))
    place = {name: min(k // part, 2) for k, name in enumerate(order)}
    held, validation, train = (
        tuple(w for w, u in zip(windows.items, units, strict=True) if place[u] == k) for k in range(3)
    )
    return Split(train, validation, held, kind, units)


def batches(windows: Sequence[Window], rows: int = ROWS) -> Iterator[tuple[Window, ...]]:
    """Windows of equal length together, the longest first, in order of their numbers."""
    ordered = sorted(windows, key=lambda w: (-len(w.ids), w.index))
    for _, group in groupby(ordered, key=lambda w: len(w.ids)):
        same = tuple(group)
        for start in range(0, len(same), rows):
            yield same[start : start + rows]


@dataclass(frozen=True)
class Read:
    """One batch's states.

    Args:
        seen: what the pass showed. norms: [state, row, position]. kept: True at positions that are no sink.
    """

    windows: tuple[Window, ...]
    seen: Seen
    kept: Bool[Tensor, "row position"]

    def state(self, number: int, at: Tensor) -> Tensor:
        """State `number` at the positions where `at` [row, position] is True, [item, d_model]."""
        return self.seen[self.seen.model.anatomy.states()[number]][at]

    def states(self, at: Tensor) -> Tensor:
        """All L+1 states at the positions where `at` is True, in the head's precision: [state, item, d_model]."""
        precision = self.seen.model.head.precision
        return torch.stack(
            [self.state(s, at).to(precision) for s in range(self.seen.model.anatomy.n_layers + 1)]
        )


def read(model: Model, windows: Sequence[Window]) -> Read:
    """One forward pass over windows of equal length.

    Kept are positions whose states are finite and that are no sinks (position 0, and positions whose norm exceeds four
    times the median of their window at some state): one vector a hundred times longer than the others would be
    most of a Gram matrix, and most of a gradient.
    """
    batch = Batch.of_ids([w.ids for w in windows], [w.document for w in windows])
    seen = run(model, batch, read=STATES)
    sites = model.anatomy.states()
    norms = torch.stack([torch.linalg.vector_norm(seen[site].float(), dim=-1) for site in sites], dim=1)
    finite = torch.isfinite(norms).all(1)
    clean = torch.where(finite[:, None], norms, torch.nan)
    return Read(tuple(windows), seen, finite & ~sink_mask(clean))
