"""How much likelier the tokens of a class of tokens become when its vector is added, taken from each part."""

from __future__ import annotations

from depthscope.charts import Spec
from depthscope.plots.steering_domain import towards
from depthscope.results.result import Result

SUITS = ("component_steering",)
READS = ("vector_gain",)
TITLE = "Vectors towards a class of tokens, from each part"


def plot(result: Result) -> Spec:
    """Gain by layer at the middle strength: vectors of either part, of the stream, and random ones."""
    return towards(result, "token_type", TITLE)
