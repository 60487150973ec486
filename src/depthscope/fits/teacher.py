"""The teacher: streams of the asked states from one pass that stops at the highest of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.shard import hashed
from depthscope.materials.window import Window
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

TOKENS = 2048
"""Tokens that a model on a processor reads together."""


@dataclass(frozen=True)
class Streams:
    """One batch: ids [row token] and the stream of each state, float32 [row token d_model]; gone with the batch."""

    windows: tuple[Window, ...]
    ids: Tensor
    of: dict[int, Tensor]


def taught(model: Model, windows: Sequence[Window], states: Sequence[int]) -> Streams:
    """One forward pass over windows of one length, without gradients and without the unembedding."""
    ids = torch.tensor([w.ids for w in windows])
    sites = model.anatomy.states()
    found: dict[int, list[Tensor]] = {s: [] for s in states}
    for part in ids.split(rows_together(model.device, ids.shape[1], TOKENS)):
        seen = run(model, Batch.of_ids(part), read=[sites[s] for s in states])
        for s, parts in found.items():
            parts.append(seen[sites[s]].float())
    return Streams(tuple(windows), ids.to(model.device), {s: torch.cat(parts) for s, parts in found.items()})


def rows_together(device: torch.device, length: int, tokens: int) -> int:
    """Rows of a batch that go together: about `tokens` tokens on a processor, whose caches are small; else all."""
    return max(1, tokens // length) if device.type == "cpu" else 2**31


def drawn(windows: Sequence[Window], seed: int, start: int, stop: int) -> Iterator[Window]:
    """Windows number start to stop of the endless row of passes; each pass has its own order, by hash."""
    index = np.array([w.index for w in windows])
    for lap in range(start // len(windows), max(start, stop - 1) // len(windows) + 1):
        order = np.argsort(hashed(index, np.full_like(index, lap), seed + 2), kind="stable")
        first = lap * len(windows)
        for k in order[max(0, start - first) : max(0, stop - first)]:
            yield windows[int(k)]


def batched(windows: Sequence[Window], rows: int) -> Iterator[tuple[Window, ...]]:
    """The windows in their order, `rows` together."""
    for start in range(0, len(windows), rows):
        yield tuple(windows[start : start + rows])
