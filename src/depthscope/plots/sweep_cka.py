"""How alike the expectations of different predictors are."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, heat_map, present
from depthscope.results.result import Result

SUITS = ("predictor_sweep",)
READS = ("cka",)
TITLE = "How alike expectations of two designs are"


def plot(result: Result) -> Spec:
    """Linear CKA of every pair of designs at the middle layer of the sweep."""
    found = present(result, READS)["cka"]
    layers = np.asarray(found.axes["layer"]).tolist()
    layer = layers[len(layers) // 2]
    here = found.select(layer=layer)
    drawn, note = heat_map(here, {"variant": "design", "other": "design"}, "CKA")
    smallest = float(np.nanmin(here.value)) if np.isfinite(here.value).any() else float("nan")
    told = (
        f"Map of {len(here.axes['variant'])} designs at layer {layer}; the least alike have {smallest:.3g}."
    )
    return finish([drawn], TITLE, told, "; ".join(part for part in (f"layer {layer}", note) if part))
