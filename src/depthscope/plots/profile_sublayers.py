"""Over how many directions tokens spread at the points of each block."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("representation_profile",)
READS = ("sublayer_effective_rank",)
TITLE = "Effective rank within the block"
ON_REQUEST = True


def plot(result: Result) -> Spec:
    """Effective rank by layer, one line per point of the block that exists; the first mode that was asked for."""
    found = present(result, READS)["sublayer_effective_rank"]
    mode = np.asarray(found.axes["mode"]).tolist()[0]
    drawn = found.select(mode=mode)
    points = {str(p): drawn.select(sublayer=p) for p in np.asarray(found.axes["sublayer"]).tolist()}
    series = {name: each for name, each in points.items() if np.isfinite(each.value).any()} or points
    note = f"mode {mode}; {found.note}" if found.note else f"mode {mode}"
    return finish(lines(series, "layer", "effective rank"), TITLE, described(series, "layer"), note)
