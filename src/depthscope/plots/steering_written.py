"""Which of two domains written text leans to, unsteered and under each change."""

from __future__ import annotations

from depthscope.charts import Spec, dashed, finish, present
from depthscope.charts.points import points, ranked
from depthscope.results.result import Result

SUITS = ("component_steering",)
READS = ("written_towards_other",)
TITLE = "Domain that written text leans to: A (1) or B (0)"
NAMES = {
    "plain": "unsteered", "nothing": "change of nothing", "other": "prompt of A", "swap_predictable": "expected of A",
    "swap_novel": "novel of A", "swap_raw": "step towards A", "swap_random": "random step",
    "swap_shuffled": "expected of A, novel shuffled", "vector_predictable": "vector, predictable",
    "vector_novel": "vector, novel", "vector_raw": "vector, whole", "vector_random": "vector, random",
}  # fmt: skip


def plot(result: Result) -> Spec:
    """The judge's share for the domain of A, by what was done to the states of B."""
    found = present(result, READS)["written_towards_other"]
    drawn = points({"text": found}, "variant", "what was done", "share for A", NAMES)
    return finish(drawn + dashed(0.5, "cannot tell"), TITLE, ranked(found, "variant"))
