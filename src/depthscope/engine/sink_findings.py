"""From what each key takes to the mass on the sink set, plain and by the length of values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.engine.measured import mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.results.measurement import Measurement


def sink_set_findings(
    taken: PerDocument,
    weighed: PerDocument,
    sets: np.ndarray,
    axes: Mapping[str, np.ndarray],
    facts: Facts,
) -> list[Measurement]:
    """Mass on the sink set by layer, the same weighted by values, and how many keys the set has.

    Args:
        taken, weighed: [unit, source, mode, layer, key], means over queries and heads. sets: which keys, [source, mode,
            key]. axes: source, mode, layer.
    """
    none = "no such text was read, it has no sink, or the layer has no attention heads"
    there = np.asarray(sets.any(-1))
    found: list[Measurement] = []
    for name, part in (("sink_mass", taken), ("sink_mass_weighted", weighed)):
        inside = sets[None, :, :, None]
        sums = (part.sums * inside).sum(-1)
        counts = np.where(there[None, :, :, None], part.counts.max(-1, initial=0), 0)
        own = PerDocument(part.units, np.where(counts > 0, sums, 0.0), counts)
        found.append(
            mean(own, name, axes, "probability", facts, "on keys that a quarter of the heads rest on", none)
        )
    outer = {name: labels for name, labels in axes.items() if name != "layer"}
    read = taken.counts.sum((0, 3, 4)) > 0
    size = np.where(read, sets.sum(-1), np.nan).astype(np.float64)
    found.append(
        Measurement(
            "sink_keys", outer, size, "1", note="keys in the sink set", missing="no such text was read"
        )
    )
    return found
