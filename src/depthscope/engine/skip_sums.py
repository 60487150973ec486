"""What a staircase of skips adds to a tally: sums by unit, the largest values, and a sample of positions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.tally import Extremes, Part, PerDocument, Rows, Sum
from depthscope.engine.view import View
from depthscope.runtime.effects import Effects

CELLS = 2**21
"""A sample of positions holds one number a pair of layers; so many numbers it may hold in all."""


def of_sublayer(name: str, sublayer: str) -> str:
    """The name of a part that each sublayer has."""
    return f"{name}[sublayer={sublayer}]"


def skip_sums(view: View, sublayer: str, sample: int) -> dict[str, Part]:
    """Everything one sublayer's skips contribute; effects on future tokens and direct ones where they were asked."""
    effects, need = view.effects, view.sweep
    assert need is not None
    place = {int(n.partition(".")[0]): k for k, n in enumerate(effects.names) if n.endswith(f".{sublayer}")}
    if not place:
        return {}
    skips = _Skips(view, effects, place, max(16, min(sample, CELLS // view.seen.model.anatomy.n_layers**2)))
    found: dict[str, Part] = skips.now()
    if effects.future_positions.sum():
        found |= skips.later()
    if need.local:
        found["local_changed"] = skips.by_pair(effects.local_changed, effects.positions)
    named = {of_sublayer(name, sublayer): each for name, each in found.items()}
    return named | (floors(effects) if sublayer == "block" else {})


def floors(effects: Effects) -> dict[str, Part]:
    """Noise floors weighted with positions: output KL, loss, shift, then the write of each layer."""
    now = (effects.floor_kl, effects.floor_loss, effects.floor_shift, *effects.floor_changed.tolist())
    later = (effects.future_floor_kl, effects.future_floor_loss, effects.future_floor_shift)
    return {
        "floor": _weighted(now, effects.positions),
        "future_floor": _weighted((*later, *effects.future_floor_changed.tolist()), effects.future_positions),
    }


def _weighted(values: tuple[float, ...], positions: Tensor) -> Sum:
    weight = float(positions.sum())
    return Sum(np.asarray(values) * weight, np.full(len(values), weight).astype(np.int64))


class _Skips:
    """The variants of one sublayer: layer -> place among the variants."""

    def __init__(self, view: View, effects: Effects, place: dict[int, int], cap: int) -> None:
        self.view, self.effects, self.place, self.cap = view, effects, place, cap
        self.depth = view.seen.model.anatomy.n_layers

    def now(self) -> dict[str, Part]:
        """Effects of skips everywhere."""
        e = self.effects
        return {
            "output_kl": self.by_layer(e.output_kl, e.positions),
            "loss_increase": self.by_layer(e.loss_increase, e.targets),
            "shift": self.by_layer(e.shift, e.positions),
            "changed": self.by_pair(e.changed, e.positions),
            "clean": self.by_pair(e.clean, e.positions),
            **self._positions("", e.relative, e.shifts),
        }

    def later(self) -> dict[str, Part]:
        """Effects on future tokens of skips before a split."""
        e = self.effects
        return {
            "future_kl": self.by_layer(e.future_kl, e.future_positions),
            "future_loss": self.by_layer(e.future_loss, e.future_targets),
            "future_shift": self.by_layer(e.future_shift, e.future_positions),
            "future_changed": self.by_pair(e.future_changed, e.future_positions),
            "future_clean": self.by_pair(e.future_clean, e.future_positions),
            **self._positions("future_", e.future_relative, e.future_shifts),
        }

    def by_layer(self, value: Tensor, count: Tensor) -> PerDocument:
        """[variant row] -> sums and counts by (unit, layer); layers that were not skipped have count 0."""
        sums = np.zeros((len(self.view.units), self.depth))
        counts = np.zeros(sums.shape, np.int64)
        for layer, k in self.place.items():
            fine = np.isfinite(value[k].numpy())
            sums[:, layer] = np.where(fine, value[k].numpy(), 0.0)
            counts[:, layer] = np.where(fine, count.numpy(), 0)
        return PerDocument.of_sums(self.view.units, sums, counts)

    def by_pair(self, value: Tensor, count: Tensor) -> PerDocument:
        """[variant layer row] or [layer row] -> sums and counts by (unit, skipped layer, later layer)."""
        sums = np.zeros((len(self.view.units), self.depth, self.depth))
        counts = np.zeros(sums.shape, np.int64)
        for layer, k in self.place.items():
            sums[:, layer] = (value[k] if value.dim() == 3 else value).T.numpy()
            counts[:, layer] = count.numpy()[:, None]
        broken = ~np.isfinite(sums)
        sums[broken], counts[broken] = 0.0, 0
        return PerDocument.of_sums(self.view.units, sums, counts)

    def _positions(self, kind: str, relative: Tensor, shifts: Tensor) -> dict[str, Part]:
        """Largest values with their places, and a sample of relative changes, in the order of layers."""
        cells = self._by_layers(relative.numpy())
        ends = self._by_layers(shifts.numpy())
        return {
            f"{kind}largest": self._largest(cells),
            f"{kind}shift_largest": self._largest(ends),
            f"{kind}rows": self._sampled(cells),
        }

    def _by_layers(self, values: np.ndarray) -> np.ndarray:
        """[variant .. row place] -> [layer .. row place], NaN for layers that were not skipped."""
        found = np.full((self.depth, *values.shape[1:]), np.nan, np.float32)
        for layer, k in self.place.items():
            found[layer] = values[k]
        return found

    def _largest(self, values: np.ndarray) -> Extremes:
        """Over rows and places; -inf where nothing was measured. The place is (window, token or place of a branch)."""
        flat = np.where(np.isnan(values), -np.inf, values).reshape(*values.shape[:-2], -1)
        windows = np.asarray(self.view.shard.windows)
        if not flat.shape[-1]:
            return Extremes(np.full(flat.shape[:-1], -np.inf), np.zeros((*flat.shape[:-1], 2), np.int64))
        row, place = np.divmod(flat.argmax(-1), values.shape[-1])
        return Extremes(flat.max(-1).astype(np.float64), np.stack([windows[row], place], -1))

    def _sampled(self, values: np.ndarray) -> Rows:
        """Relative changes [item layer later] at the places with the smallest hashes."""
        measured = np.isfinite(values[next(iter(self.place))][-1])
        row, place = np.nonzero(measured)
        keys = self.view.sampling_keys(torch.from_numpy(row), torch.from_numpy(place))
        first = np.argsort(keys, kind="stable")[: self.cap]
        columns = {
            "relative": np.moveaxis(values[:, :, row[first], place[first]], -1, 0),
            "unit": np.asarray(self.view.units, dtype=str)[row[first]],
        }
        return Rows(keys[first], columns, self.cap)
