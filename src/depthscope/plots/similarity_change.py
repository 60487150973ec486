"""How much each layer changes the arrangement of texts."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("layer_similarity",)
READS = ("change",)
TITLE = "Change of the arrangement of texts, by layer"


def plot(result: Result) -> Spec:
    """One minus debiased CKA across each layer, one line a pooling."""
    found = present(result, READS)["change"]
    series = {str(mode): found.select(mode=mode) for mode in found.axes["mode"]}
    return finish(lines(series, "layer", "1 \N{MINUS SIGN} debiased CKA"), TITLE, described(series, "layer"))
