"""How much of what a model says of a text is left when one part of its states comes from another text."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("component_steering",)
READS = ("swap_same_own", "swap_same_other")
TITLE = "Whose top-1 is left after a swap"
NAMES = {"predictable": "expected of A, novel of B", "novel": "novel of A, expected of B"}
WHOSE = {"swap_same_own": "B's", "swap_same_other": "A's"}


def plot(result: Result) -> Spec:
    """Share of positions whose top-1 is that of B, and of A, unsteered; by layer, for both ways to swap."""
    found = present(result, READS)
    series = {
        f"{whose}: {words}": found[name].select(variant=variant)
        for variant, words in NAMES.items()
        for name, whose in WHOSE.items()
        if name in found
    }
    return finish(lines(series, "layer", "share of positions"), TITLE, described(series, "layer"))
