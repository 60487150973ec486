"""What it does to the output to lengthen one part of a state."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("component_steering",)
READS = ("scale_kl",)
TITLE = "Change of the output when a part is scaled"


def plot(result: Result) -> Spec:
    """Divergence by layer at the largest scale: each part, random steps as long, and the whole stream."""
    found = present(result, READS)["scale_kl"]
    level = float(np.asarray(found.axes["level"]).max())
    series = {
        str(name).replace("_", " like "): found.select(variant=name, level=level)
        for name in np.asarray(found.axes["variant"]).tolist()
    }
    note = f"parts times {1 + level:g}"
    return finish(lines(series, "layer", "KL", "auto"), TITLE, described(series, "layer"), note)
