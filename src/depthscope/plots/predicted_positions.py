"""How much of a state is new at each position of a text."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, spread_out, thin
from depthscope.results.result import Result

SUITS = ("predictability",)
READS = ("relative_novelty",)
TITLE = "Novel part by position"


def plot(result: Result) -> Spec:
    """Length of the novel part over that of the state around the mean, one line a layer."""
    found, thinned = thin(present(result, READS)["relative_novelty"], "position")
    series, note = spread_out(found, "layer", "layer {}")
    said = "; ".join(part for part in (note.replace("levels", "layers"), thinned) if part)
    return finish(lines(series, "position", "relative length"), TITLE, described(series, "position"), said)
