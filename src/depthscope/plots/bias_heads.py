"""Which heads rest on the first token, and which on a key of their own."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("explicit_bias",)
READS = ("first_share", "first_idle", "pair_share")
TITLE = "Heads that rest on the first token, and on a key of their own"
WORDS = {
    "first_share": "attention to the first token",
    "first_idle": "the same with nothing to copy",
    "pair_share": "attention to the head's own key",
}


def plot(result: Result) -> Spec:
    """A map: layer down, head across; score and variant are chosen in a list."""
    found = present(result, READS)
    scores = {
        f"{name}_{k}": one.select(variant=variant)
        for name, one in found.items()
        for k, variant in enumerate(np.asarray(one.axes["variant"]))
    }
    variants = np.asarray(next(iter(found.values())).axes["variant"])
    words = {f"{name}_{k}": f"{WORDS[name]} ({variants[k]})" for name in found for k in range(len(variants))}
    return head_map(scores, words, TITLE)
