"""What answers lose without the heads that fetch them, against four controls."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("retrieval_ablation",)
READS = ("recall",)
TITLE = "Answers without retrieval heads, and without others"
NAMES = {
    "retrieval": "retrieval heads",
    "random": "random heads",
    "streaming": "streaming heads, same layers",
    "largest": "largest writes",
}


def plot(result: Result) -> Spec:
    """Recall by number of ablated heads, a line a group; the first kind of ablation."""
    found = present(result, READS)["recall"]
    mode = np.asarray(found.axes["mode"])[0]
    one = found.select(mode=mode)
    series = {NAMES.get(str(g), str(g)): one.select(criterion=g) for g in np.asarray(one.axes["criterion"])}
    note = f"{mode} ablation while the answer is written"
    if "intact_recall" in result.findings.measurements:
        note += f"; intact: {result['intact_recall'].scalar():.2f}"
    return finish(lines(series, "k", "words recalled"), TITLE, described(series, "k"), note)
