"""How much likelier the tokens of a class of tokens become when its vector is added, taken from each part."""

from __future__ import annotations

from depthscope.charts import Spec, at_middle_level, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("component_steering",)
READS = ("vector_gain",)
TITLE = "Vectors towards a class of tokens, from each part"


def plot(result: Result) -> Spec:
    """Gain by layer at the middle strength: vectors of either part, of the stream, and random ones."""
    series, level = at_middle_level(present(result, READS)["vector_gain"].select(target="token_type"))
    drawn = lines(series, "layer", "gain") + dashed(0.0, "no gain")
    return finish(drawn, TITLE, described(series, "layer"), f"{level:g} mean lengths of a state")
