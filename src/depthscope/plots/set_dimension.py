"""How many dimensions the vectors of a set of texts fill, by their neighbours."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("dataset_geometry",)
READS = ("intrinsic_dimension",)
TITLE = "Intrinsic dimension of a set of texts"


def plot(result: Result) -> Spec:
    """TwoNN by state, one line per convention."""
    found = present(result, READS)["intrinsic_dimension"]
    series = split(found, "definition")
    note = "TwoNN; the band comes from five random halves"
    return finish(lines(series, "state", "intrinsic dimension"), TITLE, described(series, "state"), note)
