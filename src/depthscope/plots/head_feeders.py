"""Which earlier heads feed the strongest induction heads."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("head_composition",)
READS = ("key_drop",)
TITLE = "Heads that feed the induction heads"


def plot(result: Result) -> Spec:
    """A map of earlier heads: the mass that an induction head, chosen in a list, loses without each."""
    found = present(result, READS)["key_drop"]
    readers = [str(name) for name in np.asarray(found.axes["other"])]
    scores = {name: found.select(other=name) for name in readers}
    return head_map(scores, {name: f"mass that {name} loses" for name in readers}, TITLE)
