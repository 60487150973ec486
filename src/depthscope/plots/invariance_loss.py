"""How well a disturbed text finds its other copy, by state."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("augmentation_invariance",)
READS = ("infonce_normalised",)
TITLE = "What one view tells of the other: 1 minus loss over chance"


def plot(result: Result) -> Spec:
    """One minus InfoNCE loss over chance by state, for the views of each text and for shuffled ones."""
    found = present(result, READS)["infonce_normalised"].select(mode="symmetric")
    series = {str(one): found.select(variant=one) for one in found.axes["variant"]}
    note = "1: every view finds its partner; 0: chance; below: views of other texts look nearer"
    drawn = lines(series, "state", "of the information that names a text")
    return finish(drawn, TITLE, described(series, "state"), note)
