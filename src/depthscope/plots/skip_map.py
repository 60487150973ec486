"""Which later layers write something else when a layer is skipped."""

from __future__ import annotations

from depthscope.charts import Spec, finish, pair_map, present
from depthscope.results.result import Result

SUITS = ("layer_skip",)
READS = ("effect_on_later",)
TITLE = "Effect of skipping a layer on every later layer's write"


def plot(result: Result) -> Spec:
    """A map: skipped layer down, later layer across; cells without a value stay empty."""
    layer, told, note = pair_map(present(result, READS)["effect_on_later"])
    return finish([layer], TITLE, told, note, height=320)
