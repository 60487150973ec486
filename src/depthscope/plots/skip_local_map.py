"""Which later layers write something else when a layer's write alone is taken from what they read."""

from __future__ import annotations

from depthscope.charts import Spec, finish, pair_map, present
from depthscope.results.result import Result

SUITS = ("layer_skip",)
READS = ("local_effect",)
TITLE = "Direct effect of a layer's write on every later layer's write"


def plot(result: Result) -> Spec:
    """A map: layer whose write is taken away down, later layer across; nothing passes through layers between."""
    layer, told, note = pair_map(present(result, READS)["local_effect"])
    return finish([layer], TITLE, told, note, height=320)
