"""Probes of a predictor sweep: what the parts of a state say, when each design in turn takes the state apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.probe_findings import TASKS, Probed, Scored, drawn_weights, ends, resampled, scored
from depthscope.fits.teacher import batched, taught
from depthscope.materials.probe_windows import SPLITS, ProbeWindows
from depthscope.materials.window import Window
from depthscope.measures.softmax_probe import macro_f1
from depthscope.results.measurement import Measurement
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Predictor

PARTS = ("h", "expected", "novel")
PENALTIES = (10.0, 1.0, 0.1, 0.01)
STEPS = 200
"""Of one probe; a probe of 576 numbers is done before."""


@dataclass(frozen=True, eq=False)
class Probing:
    """Windows of labelled documents, and the labels of their probed positions.

    Args:
        items: a row a probed position: `label`, `type`, `split`, `unit`.
    """

    windows: tuple[Window, ...]
    items: Mapping[str, np.ndarray]
    source: str

    @classmethod
    def of(cls, model: Model, source: str, per_label: int, length: int, seed: int) -> Probing:
        """At most `per_label` documents of each label.

        Raises:
            BadInput: what `ProbeWindows` refuses.
        """
        material = ProbeWindows(source, per_label=per_label, window=length)
        found = material.windows(model, seed)
        rows = [
            (w.about["label"], kind, SPLITS.index(w.about["split"]), w.document)
            for w in found.items
            for kind in w.about["types"]
        ]
        label, kind, part, unit = (np.asarray(column) for column in zip(*rows, strict=True))
        return cls(
            tuple(found.items), {"label": label, "type": kind, "split": part, "unit": unit}, found.source
        )

    @torch.no_grad()
    def read(
        self, model: Model, nets: Mapping[int, Predictor], rows: int
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Of each state the expectations and the states at the probed positions, [item d_model]."""
        at = torch.tensor(self.windows[0].about["probed"])
        found: dict[int, list[tuple[Tensor, Tensor]]] = {s: [] for s in nets}
        for batch in batched(self.windows, rows):
            streams = taught(model, batch, list(nets))
            for s, net in nets.items():
                expected = net(streams.of[s])[:, at - 1].flatten(0, 1)
                found[s].append((expected, streams.of[s][:, at].flatten(0, 1)))
        return {
            s: (torch.cat([e for e, _ in each]), torch.cat([h for _, h in each])) for s, each in found.items()
        }


@dataclass(frozen=True, eq=False)
class ProbeTable:
    """Probes on the parts that each design makes.

    Args:
        kept: design -> layer -> expectations [item d_model]; under "" the states themselves.
        told: called with how many designs are done, and of how many.
    """

    probing: Probing
    kept: Mapping[str, Mapping[int, Tensor]]
    seed: int
    told: Callable[[int, int], None]

    @property
    def designs(self) -> list[str]:
        """Names, the base first."""
        return [name for name in self.kept if name]

    @cached_property
    def layers(self) -> list[int]:
        """Whose states are taken apart."""
        return list(self.kept[""])

    def _probed(self, design: str) -> list[Probed]:
        """The items of each task with the parts of one design."""
        h, expected = (
            np.stack([self.kept[name][layer].numpy() for layer in self.layers]) for name in ("", design)
        )
        parts = {"h": h, "expected": expected, "novel": h - expected}
        return [Probed.of(task, parts, self.probing.items) for task in TASKS]

    def found(self) -> dict[str, Any]:
        """F1 [3, task, part, layer, design], differences [3, task, layer, design] and counts [2, task], as JSON.

        The three values are the score and the ends of its interval; counts are documents and items.
        """
        shape = (len(TASKS), len(PARTS), len(self.layers), len(self.designs))
        f1, gap = np.full((3, *shape), np.nan), np.full((3, shape[0], *shape[2:]), np.nan)
        counts = np.zeros((2, len(TASKS)), np.int64)
        whole: dict[tuple[str, int], Scored] = {}
        for d, design in enumerate(self.designs):
            for t, one in enumerate(self._probed(design)):
                weights = drawn_weights(one, self.seed)
                counts[:, t] = len(np.unique(one.test_units)), len(one.test_units)
                for k in range(len(self.layers)):
                    cells = dict(self._cells(one, k, whole))
                    f1[:, t, :, k, d] = np.stack([_scored(cells[name], weights) for name in PARTS], 1)
                    gap[:, t, k, d] = _gap(cells["expected"], cells["novel"], weights)
            self.told(d + 1, len(self.designs))
        return {"f1": f1.tolist(), "gap": gap.tolist(), "counts": counts.tolist()}

    def measurements(self, found: Mapping[str, Any]) -> dict[str, Measurement]:
        """F1 of every part, and that of the expected part minus that of the novel one, from what `found` gave."""
        axes = {
            "task": np.asarray(TASKS), "feature": np.asarray(PARTS), "layer": np.asarray(self.layers),
            "variant": np.asarray(self.designs),
        }  # fmt: skip
        less = {axis: labels for axis, labels in axes.items() if axis != "feature"}
        note = f"linear probes on {self.probing.source}; macro F1, test documents resampled"
        minus = f"{note}; F1 of the expected part minus that of the novel part, in the same draws"
        made = (
            self._made("probe_f1", axes, found["f1"], found["counts"], note),
            self._made("probe_difference", less, found["gap"], found["counts"], minus),
        )
        return {m.name: m for m in made}

    def _made(
        self, name: str, axes: Mapping[str, np.ndarray], values: Any, counts: Any, note: str  # noqa: ANN401  (JSON)
    ) -> Measurement:  # fmt: skip
        value, low, high = np.asarray(values)
        n, items = (
            np.broadcast_to(np.reshape(c, (-1, *[1] * (value.ndim - 1))), value.shape) for c in counts
        )
        return Measurement(name, axes, value, "1", low, high, n, items, note)

    def _cells(
        self, one: Probed, layer: int, whole: dict[tuple[str, int], Scored]
    ) -> Iterator[tuple[str, Scored]]:
        """Every part's probe; that of the state itself is fitted once for all designs."""
        for name in PARTS:
            at = (one.task, layer)
            if name == "h" and at not in whole:
                whole[at] = scored(one, name, layer, PENALTIES, STEPS, self.seed)
            yield name, whole[at] if name == "h" else scored(one, name, layer, PENALTIES, STEPS, self.seed)

    def remarks(self) -> list[str]:
        """What a reader must know."""
        units = len(np.unique(self.probing.items["unit"]))
        return [
            f"Probes: {len(self.probing.items['unit'])} items of {units} documents, {self.probing.source}."
        ]


def _scored(one: Scored, weights: np.ndarray) -> np.ndarray:
    """F1, low and high."""
    return ends(macro_f1(one.counts.sum(0)[None]), macro_f1(resampled(one.counts, weights)))


def _gap(first: Scored, second: Scored, weights: np.ndarray) -> np.ndarray:
    """F1 of the first minus that of the second, low and high, in the same draws."""
    alone = macro_f1(first.counts.sum(0)[None]) - macro_f1(second.counts.sum(0)[None])
    drawn = macro_f1(resampled(first.counts, weights)) - macro_f1(resampled(second.counts, weights))
    return ends(alone, drawn)
