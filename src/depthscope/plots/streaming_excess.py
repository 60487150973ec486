"""What a cache of recent keys costs, by how many first keys it keeps."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("streaming_cache",)
READS = ("excess",)
TITLE = "Cost of a cache of recent keys"


def plot(result: Result) -> Spec:
    """Loss above that of the whole text by number of first keys, a line a kind of cache; the smallest cache."""
    found = present(result, READS)["excess"]
    kept = np.asarray(found.axes["kept"])[0]
    series = {
        str(variant).replace("_", " "): found.select(variant=variant, kept=kept)
        for variant in np.asarray(found.axes["variant"]).tolist()
    }
    note = f"{int(kept)} keys kept"
    return finish(lines(series, "sinks", "loss above full"), TITLE, described(series, "sinks"), note)
