"""In which layers heads rest on the first token, for natural, random and repeated text."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("attention_sinks",)
READS = ("sink_by_layer",)
TITLE = "Heads that rest on the first token"
WORDS = {"start": "with a start token", "none": "without"}


def plot(result: Result) -> Spec:
    """The share of heads of each layer above the first level, a line a kind of text and start."""
    found = present(result, READS)["sink_by_layer"]
    level = np.asarray(found.axes["level"])[0]
    series = {
        f"{source}, {WORDS.get(str(mode), str(mode))}": found.select(source=source, mode=mode, level=level)
        for source in np.asarray(found.axes["source"]).tolist()
        for mode in np.asarray(found.axes["mode"]).tolist()
    }
    note = f"mean attention to the first token above {float(level):g}"
    return finish(lines(series, "layer", "share of heads"), TITLE, described(series, "layer"), note)
