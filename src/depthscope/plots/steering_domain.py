"""How much likelier the tokens of a domain become when its vector is added, taken from each part."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("component_steering",)
READS = ("vector_gain",)
TITLE = "Vectors towards a domain, from each part"


def plot(result: Result) -> Spec:
    """Gain by layer at the middle strength: vectors of either part, of the stream, and random ones."""
    return towards(result, "domain", TITLE)


def towards(result: Result, target: str, title: str) -> Spec:
    """The chart of one kind of target."""
    found = present(result, READS)["vector_gain"].select(target=target)
    strengths = np.asarray(found.axes["level"])
    level = float(np.sort(strengths)[len(strengths) // 2])
    series = {
        str(name): found.select(variant=name, level=level)
        for name in np.asarray(found.axes["variant"]).tolist()
    }
    drawn = lines(series, "layer", "gain") + dashed(0.0, "no gain")
    return finish(drawn, title, described(series, "layer"), f"{level:g} mean lengths of a state")
