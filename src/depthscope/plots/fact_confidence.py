"""Whether what is said about invented names comes from fewer memories, at equal confidence."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, heat_map, present
from depthscope.results.result import Result

SUITS = ("fact_memory",)
READS = ("hit_by_confidence",)
TITLE = "Hits of what is said, by how surely it is said"


def plot(result: Result) -> Spec:
    """A map of confidence (down) by kind of prompt (across), at the prompt's end."""
    found = present(result, READS)["hit_by_confidence"].select(token="end")
    named = {"confidence": "third by probability of what is said", "bucket": "prompt about"}
    layer, note = heat_map(found, named, "share of hits", {"scheme": "viridis", "domain": [0, 1]})
    said = "; ".join(
        f"{kind}: "
        + ", ".join("none" if np.isnan(x) else f"{x:.2f}" for x in found.select(bucket=kind).value)
        for kind in np.asarray(found.axes["bucket"])
    )
    return finish([layer], TITLE, f"Share of prompts with a hit from low to high confidence; {said}.", note)
