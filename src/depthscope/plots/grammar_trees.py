"""Trees that need no model against the tree of the best head."""

from __future__ import annotations

import math

from depthscope.charts import Spec, dashed, finish, present
from depthscope.charts.points import points, ranked
from depthscope.results.result import Result

SUITS = ("grammar_heads",)
READS = ("tree_rival_uas", "tree_best_uas")
TITLE = "Whole parses: rules without a model, and the best head"


def plot(result: Result) -> Spec:
    """A point with its interval for each rule; the dashed line is the spanning tree of the best head."""
    found = present(result, READS)
    rules = found["tree_rival_uas"]
    drawn = points({"rule": rules}, "variant", "rule", "words on the right head")
    best = found["tree_best_uas"].scalar() if "tree_best_uas" in found else float("nan")
    note = f"dashed: the tree of the best head, {best:.3g}" if math.isfinite(best) else ""
    return finish(drawn + dashed(best, "the best head's tree"), TITLE, ranked(rules, "variant"), note)
