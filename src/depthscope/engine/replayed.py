"""What orders of layers do to the output: the loss of the true next token and the most likely one, order by order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.tally import PerDocument
from depthscope.errors import Refused
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.orders import Order, ends
from depthscope.runtime.replay import fixed_order
from depthscope.runtime.run import Seen, run
from depthscope.runtime.sweep import next_ids

TOGETHER = 12
"""Last states that are decoded at one time: the vocabulary is read once for all of them."""
WANTED = Decode(top_k=1, target=True)
UNFOLLOWED = "it is no causal language model: there is no next token whose loss could rise"
"""Why encoders are refused."""


def must_reorder(anatomy: Anatomy, undecoded: str, unfollowed: str = UNFOLLOWED) -> None:
    """Refuse a model whose layers may not move, or whose output says nothing of what moving them does.

    Args:
        undecoded: what cannot be said without an unembedding. unfollowed: what cannot be said of an encoder.

    Raises:
        Refused: with the reason.
    """
    if not anatomy.has_unembedding():
        raise Refused(undecoded)
    if not anatomy.family.causal:
        raise Refused(unfollowed)
    if reason := fixed_order(anatomy):
        raise Refused(reason)


def batches(windows: Sequence[Sequence[int]], units: Sequence[str], most: int) -> Iterator[Batch]:
    """Windows of equal length together, longest first, about `most` token ids a batch."""
    for length in sorted({len(w) for w in windows}, reverse=True):
        same = [k for k, w in enumerate(windows) if len(w) == length]
        step = max(1, most // length)
        for part in (same[k : k + step] for k in range(0, len(same), step)):
            yield Batch.of_ids([windows[k] for k in part], [units[k] for k in part])


def recorded(model: Model, batch: Batch) -> Seen:
    """A pass that read all states and can be replayed."""
    return run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)


@dataclass(frozen=True)
class Outputs:
    """What the intact model and each order say at every position that has a next token.

    Args:
        loss: cross-entropy of the next token in nats, [order item]; not finite where an order overflows.
        top: the most likely id, [order item]. intact_loss, intact_top: the same of the intact model, [item].
        units: the independent unit of each item.
    """

    loss: np.ndarray
    top: np.ndarray
    intact_loss: np.ndarray
    intact_top: np.ndarray
    units: tuple[str, ...]

    def increase(self) -> PerDocument:
        """Rise of the loss over the intact model at the same positions, nats, [unit, order]."""
        return PerDocument.of(self.units, (self.loss - self.intact_loss).T)

    def agreement(self) -> PerDocument:
        """Share of positions whose most likely token is still the intact model's, [unit, order]."""
        same = np.where(np.isfinite(self.loss), self.top == self.intact_top, np.nan)
        return PerDocument.of(self.units, same.T)

    def intact(self) -> PerDocument:
        """The intact model's loss, nats, [unit]."""
        return PerDocument.of(self.units, self.intact_loss)


def outputs(seen: Seen, orders: Sequence[Order], units: Sequence[str]) -> Outputs:
    """Run orders of layers over a recorded pass and decode their last states at every position with a next token.

    Args:
        seen: a pass made with `record=True` that read all states. units: the independent unit of each row.

    Raises:
        Refused: when the pass cannot be replayed.
    """
    every = seen.batch.mask.nonzero()
    targets, known = next_ids(seen, every)
    index, targets = every[known], targets[known]
    rows, positions = index[:, 0], index[:, 1]
    final = seen[seen.model.anatomy.states()[-1]][rows, positions]
    loss = np.full((len(orders), len(index)), np.nan)
    top = np.zeros(loss.shape, np.int64)
    waiting: dict[int, Tensor] = {}

    def decode() -> None:
        stacked = torch.stack(list(waiting.values()))
        loss[list(waiting)], top[list(waiting)] = _decoded(seen, stacked, final, targets)
        waiting.clear()

    for place, stream in ends(seen, orders):
        waiting[place] = stream[rows, positions]
        if len(waiting) == TOGETHER:
            decode()
    if waiting:
        decode()
    intact_loss, intact_top = _decoded(seen, final[None], final, targets)
    names = tuple(str(units[r]) for r in rows.tolist())
    return Outputs(loss, top, intact_loss[0], intact_top[0], names)


def increases(passes: Iterable[Seen], orders: Sequence[Order]) -> PerDocument:
    """Rise of the loss under each order over all passes, nats, [unit, order]."""
    total = PerDocument((), np.zeros((0, len(orders))), np.zeros((0, len(orders)), np.int64))
    for seen in passes:
        total = total.add(outputs(seen, orders, seen.batch.documents).increase())
    return total


def placed(
    found: PerDocument, first: int, cells: Sequence[tuple[int, ...]], shape: tuple[int, ...]
) -> PerDocument:
    """Columns of [unit, order] from `first` on, each in its own cell of [unit, *shape]; other cells have no item."""
    sums = np.zeros((len(found.units), *shape))
    counts = np.zeros(sums.shape, np.int64)
    for k, cell in enumerate(cells):
        sums[(slice(None), *cell)] = found.sums[:, first + k]
        counts[(slice(None), *cell)] = found.counts[:, first + k]
    return PerDocument(found.units, sums, counts)


def _decoded(seen: Seen, states: Tensor, final: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    trace = seen.model.head.decode(states, final, WANTED, targets)
    assert trace.cross_entropy is not None
    assert trace.top_ids is not None
    return trace.cross_entropy.double().cpu().numpy(), trace.top_ids[..., 0].cpu().numpy()
