"""A map of probe scores: layer down, what the probe reads across."""

from __future__ import annotations

import numpy as np

from depthscope.charts.maps import heat_map
from depthscope.charts.specification import Spec, finish
from depthscope.results.measurement import Measurement


def part_map(f1: Measurement, task: str, title: str) -> Spec:
    """Macro F1 of one task over layers and inputs.

    Args:
        f1: over task, score, feature and layer.
    """
    found = f1.select(task=task, score="macro_f1")
    layer, note = heat_map(found, {"layer": "layer", "feature": "what the probe reads"}, "macro F1")
    layer["encoding"]["x"]["axis"] |= {"labelOverlap": False, "labelAngle": -25}  # every input keeps its name
    return finish([layer], title, _told(found), note)


def _told(found: Measurement) -> str:
    """The mean of each input over layers, in words."""
    names = np.asarray(found.axes["feature"]).tolist()
    size = f"Map of {len(found.axes['layer'])} layers and {len(names)} inputs"
    if not np.isfinite(found.value).any():
        return f"{size}, without any value."
    place = list(found.axes).index("layer")
    means = found.value.mean(axis=place)
    said = ", ".join(
        f"{name} {mean:.2f}" for name, mean in zip(names, means, strict=True) if np.isfinite(mean)
    )
    return f"{size}; mean over layers: {said}."
