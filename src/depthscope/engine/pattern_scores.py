"""All scores of one layer's attention rows, and the offsets its heads look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.key_sets import key_sets
from depthscope.engine.view import View
from depthscope.measures.pattern_masses import (
    far_mass,
    group_spread,
    key_masses,
    local_mass,
    offset_masses,
    row_divergence,
    weighted,
    without,
)
from depthscope.measures.patterns import pattern_statistics
from depthscope.runtime.head_writes import layers_with_heads, value_norms
from depthscope.runtime.model import Batch, Model

UNITS = {
    "entropy": "nats",
    "entropy_norm": "1",
    "distance": "tokens",
    "previous": "probability",
    "first": "probability",
    "self": "probability",
    "local_8": "probability",
    "local_32": "probability",
    "local_128": "probability",
    "next": "probability",
    "distance_nosink": "tokens",
    "far_mass": "probability",
    "bos": "probability",
    "sep": "probability",
    "punct": "probability",
    "newline": "probability",
    "kv_spread": "nats",
    "entropy_norm_weighted": "1",
    "distance_weighted": "tokens",
    "previous_weighted": "probability",
    "first_weighted": "probability",
    "self_weighted": "probability",
    "local_8_weighted": "probability",
    "local_32_weighted": "probability",
}
"""Measurements by layer and head, with their units."""
CELLS = 300_000
"""Entries of attention rows that are scored at a time; one layer at least."""
_AGAIN = ("entropy_norm", "distance", "previous", "first", "self", "local_8", "local_32")


@dataclass(frozen=True)
class Shapes:
    """What scores are asked for: the first and recent keys beyond which mass is far, and how many offsets."""

    stream: tuple[int, int]
    offsets: int


class LayerScores:
    """Scores of the rows of one shard, some layers at a time."""

    def __init__(self, model: Model, batch: Batch, seen: View, shapes: Shapes) -> None:
        self.model, self.batch, self.seen, self.shapes = model, batch, seen, shapes
        sets: Mapping[str, Tensor] = key_sets(model, batch)
        self.kinds, self.sets = tuple(sets), torch.stack(list(sets.values()), -1)
        self.sinks = seen.sinks

    def groups(self) -> list[list[int]]:
        """Layers with heads, neighbours of one window together as long as their rows are few.

        In short texts it takes longer to ask for small operations than to do them.
        """
        anatomy = self.model.anatomy
        cells = self.batch.rows * anatomy.n_heads * len(self.seen.queries) * self.batch.length
        most, found = max(1, CELLS // max(1, cells)), list[list[int]]()
        for layer in layers_with_heads(anatomy):
            window = anatomy.window_of_layer[layer]
            if found and len(found[-1]) < most and anatomy.window_of_layer[found[-1][-1]] == window:
                found[-1].append(layer)
            else:
                found.append([layer])
        return found

    def of(self, layers: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Every score of UNITS, [row layer head query], and the masses by offset, [row layer head query offset].

        Args:
            layers: of one window.
        """
        anatomy, seen = self.model.anatomy, self.seen
        rows = torch.cat([seen.pattern(layer) for layer in layers], 1)
        queries, causal = seen.queries.to(rows.device), anatomy.family.causal
        window = anatomy.window_of_layer[layers[0]]
        found = pattern_statistics(rows, queries, window, causal, self.batch.mask)
        found["local_128"] = local_mass(rows, queries, 128)
        found["next"] = self._next(rows, queries)
        left = without(rows, self.sinks)
        back = (queries[:, None] - torch.arange(rows.shape[-1], device=rows.device)).abs()
        found["distance_nosink"] = (left * back).sum(-1)
        found["far_mass"] = far_mass(rows, queries, *self.shapes.stream)
        found |= dict(zip(self.kinds, key_masses(rows, self.sets).unbind(-1), strict=True))
        found["kv_spread"] = group_spread(rows, anatomy.n_heads // anatomy.n_kv_heads)
        by_value = weighted(rows, torch.cat([self._norms(layer) for layer in layers], 1))
        again = pattern_statistics(by_value, queries, window, causal, self.batch.mask)
        found |= {f"{name}_weighted": again[name] for name in _AGAIN}
        masses = offset_masses(rows, queries, self.shapes.offsets)
        apart = (len(layers), -1)
        return {name: values.unflatten(1, apart) for name, values in found.items()}, masses.unflatten(
            1, apart
        )

    def _norms(self, layer: int) -> Tensor:
        value = self.seen.seen.heads[layer].value
        assert value is not None
        return value_norms(self.model, layer, value)

    def _next(self, rows: Tensor, queries: Tensor) -> Tensor:
        """A[i, i + 1] of encoders; NaN for causal models and where no such token stands."""
        if self.model.anatomy.family.causal:
            return rows.new_full(rows.shape[:3], torch.nan)
        after = (queries + 1).clamp_max(rows.shape[-1] - 1)
        found = rows.gather(-1, after[None, None, :, None].expand(*rows.shape[:3], 1))[..., 0]
        real = self.batch.mask[:, after] & (queries + 1 < rows.shape[-1])
        return found.masked_fill(~real[:, None], torch.nan)


def divergences(rows: list[Tensor], shape: tuple[int, int]) -> np.ndarray:
    """Mean divergence of every head's rows from every other's, summed over queries: [row, layer head layer head].

    Args:
        rows: [row head query key] of each layer, an empty tensor where it has none. shape: layers and heads.
    """
    depth, heads = shape
    count = next(len(r) for r in rows if r.numel())
    found = np.full((count, depth * heads, depth * heads), np.nan)
    place = [k * heads + h for k, r in enumerate(rows) if r.numel() for h in range(heads)]
    every = torch.cat([r for r in rows if r.numel()], 1)
    for k, one in enumerate(place):
        apart = row_divergence(every[:, k : k + 1], every).mean(-1)
        found[:, one, place] = apart.double().cpu().numpy()
    return found.reshape(count, depth, heads, depth, heads)
