"""Which later layers write something else at future tokens when a layer is skipped before them."""

from __future__ import annotations

from depthscope.charts import Spec, finish, pair_map, present
from depthscope.results.result import Result

SUITS = ("layer_skip",)
READS = ("future_effect_on_later",)
TITLE = "Effect of skipping a layer on later layers' writes at future tokens"


def plot(result: Result) -> Spec:
    """A map: skipped layer down, later layer across, future tokens only; cells without a value stay empty."""
    layer, told, note = pair_map(present(result, READS)["future_effect_on_later"])
    return finish([layer], TITLE, told, note, height=320)
