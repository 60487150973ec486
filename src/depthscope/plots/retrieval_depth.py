"""Where in a text an answer is still found, by depth and length."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, finish, heat_map, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("retrieval_heads",)
READS = ("token_accuracy",)
TITLE = "Answers by depth and length of the text"


def plot(result: Result) -> Spec:
    """A map of length (down) by depth (across): share of the answer's tokens that are said right."""
    found = present(result, READS)["token_accuracy"]
    named = {"length": "tokens of the text", "depth": "depth of the needle"}
    layer, note = heat_map(found, named, "tokens said right", {"scheme": "viridis", "domain": [0, 1]})
    return finish([layer], TITLE, _told(found), note)


def _told(found: Measurement) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of length by depth without any value in its {found.value.size} cells."
    row, column = np.unravel_index(np.nanargmin(found.value), found.value.shape)
    worst = f"{np.nanmin(found.value):.3g} at {found.axes['length'][row]} tokens, depth {found.axes['depth'][column]}"
    return f"Map of length by depth; the mean is {np.nanmean(found.value):.3g}, the lowest {worst}."
