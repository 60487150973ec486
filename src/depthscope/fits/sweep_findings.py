"""From the designs of a sweep to measurements: R2 against parameters, and how much the split depends on the design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.measures.partial_ranks import partial_rank_correlation
from depthscope.measures.predictability import DEFINITIONS
from depthscope.measures.similarity import cka, debiased_cka, grams
from depthscope.measures.subspace import principal_angles
from depthscope.results.measurement import Measurement

DIRECTIONS = 10
"""Leading directions of each design's expectations that principal angles are taken between."""
AGAIN = "again, other seed"
"""The base design once more: what a comparison gives where only the seed is another."""


@dataclass(frozen=True, eq=False)
class Swept:
    """What each design left.

    Args:
        steps: design -> values, intervals, draws and parameters. layers: whose states were predicted.
        kept: design -> layer -> expectations [item d_model] and lengths of the novel part [item], at the same items.
        units: the unit of each item; judged: how many units R2 was judged on, and how many targets.
    """

    steps: Mapping[str, Mapping[str, Any]]
    layers: Sequence[int]
    kept: Mapping[str, Mapping[int, tuple[Tensor, Tensor]]]
    units: np.ndarray
    judged: tuple[int, int]
    note: str
    seed: int

    def measurements(self) -> dict[str, Measurement]:
        """All of them."""
        found = [self._r2(), self._over(), *self._sizes(), *self._pairs(), *self._with_base()]
        return {m.name: m for m in found}

    @property
    def names(self) -> list[str]:
        """Designs, the base first."""
        return list(self.steps)

    @cached_property
    def _axes(self) -> dict[str, np.ndarray]:
        return {"layer": np.asarray(self.layers), "variant": np.asarray(self.names)}

    def _each(self, name: str) -> np.ndarray:
        """[layer design ...] of one entry of the steps."""
        return np.asarray(
            [[self.steps[design][name][str(layer)] for design in self.names] for layer in self.layers],
            np.float64,
        )

    def _counts(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return np.full(shape, self.judged[0]), np.full(shape, self.judged[1])

    def _r2(self) -> Measurement:
        value = self._each("r2")
        ends = np.nanquantile(self._each("draws"), [0.025, 0.975], axis=-1)
        low, high = (np.full(value.shape, np.nan) for _ in range(2))
        low[..., 0], high[..., 0] = ends  # definition "dim"
        axes = {**self._axes, "definition": np.asarray(DEFINITIONS)}
        note = f'all targets; intervals for "dim"; {self.note}'
        return Measurement("r2", axes, value, "1", low, high, *self._counts(value.shape), note)

    def _over(self) -> Measurement:
        """R2 minus that of the base over the same draws of units."""
        value, draws = self._each("r2")[..., 0], self._each("draws")
        gain, drawn = value - value[:, :1], draws - draws[:, :1]
        low, high = np.nanquantile(drawn, [0.025, 0.975], axis=-1)
        note = f'R2 ("dim") minus that of {self.names[0]!r}; {self.note}'
        return Measurement("r2_over_base", self._axes, gain, "1", low, high, *self._counts(gain.shape), note)

    def _sizes(self) -> Iterator[Measurement]:
        axes = {"variant": np.asarray(self.names)}
        for name, unit, note in (
            ("parameters", "1", "numbers that are learned, one layer's predictor"),
            ("seconds", "seconds", "training or solution and judgement, all layers, on this machine"),
        ):
            value = np.asarray([float(self.steps[design][name]) for design in self.names])
            yield Measurement(name, axes, value, unit, note=note)

    def _pairs(self) -> Iterator[Measurement]:
        """Every design beside every other, at the same items."""
        axes = {**self._axes, "other": np.asarray(self.names)}
        tables: dict[str, list[np.ndarray]] = {"cka": [], "angle": [], "novelty_rank": []}
        for layer in self.layers:
            expected = torch.stack([self.kept[design][layer][0] for design in self.names])
            gram = grams(expected)
            tables["cka"].append(cka(gram, gram).numpy())
            tables["angle"].append(_angles(expected))
            lengths = np.stack([self.kept[design][layer][1].numpy() for design in self.names])
            tables["novelty_rank"].append(_spearman(lengths))
        units = {"cka": "1", "angle": "radians", "novelty_rank": "1"}
        count = np.asarray(len(self.units))
        notes = {
            "cka": "linear CKA of the expectations at the same tokens; without an interval",
            "angle": f"mean principal angle between the {DIRECTIONS} leading directions of the expectations; pi / 2: "
            "none is shared; without an interval",
            "novelty_rank": "Spearman's correlation of the lengths of the novel parts at the same tokens; without an "
            "interval",
        }
        for name, found in tables.items():
            value = np.stack(found)
            items = np.broadcast_to(count, value.shape)
            yield Measurement(
                name, axes, value, units[name], n_items=items, note=f"{notes[name]}; {self.note}"
            )

    def _with_base(self) -> Iterator[Measurement]:
        """Every design beside the base, with intervals over units."""
        base = self.names[0]
        ranks = [
            partial_rank_correlation(
                np.stack([self.kept[d][layer][1].numpy() for d in self.names], 1),
                np.stack([self.kept[base][layer][1].numpy()] * len(self.names), 1),
                np.zeros((0, len(self.units), len(self.names))),
                self.units,
                seed=self.seed,
            )
            for layer in self.layers
        ]
        value, low, high = (np.stack([getattr(r, k) for r in ranks]) for k in ("value", "low", "high"))
        n = np.full(value.shape, len(set(self.units.tolist())))
        items = np.full(value.shape, len(self.units))
        note = f"Spearman's correlation of the lengths of the novel parts with those of {base!r}; {self.note}"
        yield Measurement("novelty_with_base", self._axes, value, "1", low, high, n, items, note)
        debiased = np.stack([self._debiased(layer) for layer in self.layers])
        said = f"debiased linear CKA of the expectations with those of {base!r}; {self.note}"
        yield Measurement("cka_with_base", self._axes, debiased, "1", n=n, n_items=items, note=said)

    def _debiased(self, layer: int) -> np.ndarray:
        gram = grams(torch.stack([self.kept[design][layer][0] for design in self.names]))
        return debiased_cka(gram[:1], gram)[0].numpy()


def _angles(expected: Tensor) -> np.ndarray:
    """Mean principal angle of every pair of designs, [design design]."""
    centred = (expected - expected.mean(1, keepdim=True)).double()
    kept = min(DIRECTIONS, *centred.shape[1:])
    bases = torch.linalg.svd(centred, full_matrices=False).Vh[:, :kept]
    one, two = torch.broadcast_tensors(bases[:, None], bases[None])
    return principal_angles(one, two).mean(-1).numpy()


def _spearman(lengths: np.ndarray) -> np.ndarray:
    """Spearman's correlations of rows [design item]."""
    from scipy.stats import rankdata

    ranks = np.apply_along_axis(rankdata, 1, lengths)
    ranks = ranks - ranks.mean(1, keepdims=True)
    norm = np.maximum(np.linalg.norm(ranks, axis=1), 1e-300)
    return (ranks @ ranks.T) / np.outer(norm, norm)
