"""How much likelier another text's words become when its expectations, or its novelties, are put into a text."""

from __future__ import annotations

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("component_steering",)
READS = ("swap_gain",)
TITLE = "Words of A's domain in text B, after a swap"
NAMES = {
    "predictable": "expected of A",
    "novel": "novel of A",
    "raw": "a step towards A",
    "random": "random step",
}


def plot(result: Result) -> Spec:
    """Gain of the tokens that tell the domain of A, by layer: the swap, its mirror image, and two controls."""
    found = present(result, READS)["swap_gain"]
    series = {words: found.select(variant=name) for name, words in NAMES.items()}
    drawn = lines(series, "layer", "gain") + dashed(0.0, "no gain")
    return finish(drawn, TITLE, described(series, "layer"))
