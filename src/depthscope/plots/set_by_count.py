"""How the dataset entropy grows or falls with the number of texts."""

from __future__ import annotations

import numpy as np

from depthscope.charts import COLOURS, Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("dataset_geometry",)
READS = ("entropy_by_count",)
TITLE = "Dataset entropy by the number of texts"


def plot(result: Result) -> Spec:
    """Dataset entropy by state, one line per number of texts, the largest numbers where there are many."""
    found = present(result, READS)["entropy_by_count"]
    drawn = np.asarray(found.axes["kept"]).tolist()[-len(COLOURS) :]
    series = {f"{number:g} texts": found.select(kept=number) for number in drawn}
    note = "mode wei; the band spans up to four disjoint subsamples"
    return finish(lines(series, "state", "dataset entropy"), TITLE, described(series, "state"), note)
