"""In which layers prompts of facts hit a memory of their answer."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("fact_memory",)
READS = ("hit_by_layer",)
TITLE = "Prompts that hit a memory of their answer"
WORDS = {"subject": "at the subject", "end": "at the end"}


def plot(result: Result) -> Spec:
    """The share of prompts by layer, a line for each kind of prompt and place."""
    found = present(result, READS)["hit_by_layer"]
    series = {
        f"{kind}, {WORDS.get(str(place), str(place))}": found.select(token=place, bucket=kind)
        for place in np.asarray(found.axes["token"])
        for kind in np.asarray(found.axes["bucket"])
    }
    note = "facts that the model gets right or wrong, and the same prompts about invented names"
    return finish(lines(series, "layer", "share of prompts"), TITLE, described(series, "layer"), note)
