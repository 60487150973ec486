"""Which small changes of a prompt move it to the other mode."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("entropy_modes",)
READS = ("flip_share",)
TITLE = "Prompts that change their mode"
NAMES = {"newline": "newline before", "drop_first": "no first token", "equal_length": "one length"}


def plot(result: Result) -> Spec:
    """Share of prompts that each change flips, by state, for both modes; nothing where there are not two."""
    found = present(result, READS)["flip_share"]
    series = {
        f"{NAMES.get(str(variant), str(variant))}, from {side}": found.select(variant=variant, bucket=side)
        for variant in np.asarray(found.axes["variant"])
        for side in np.asarray(found.axes["bucket"])
    }
    known = {name: one for name, one in series.items() if np.isfinite(one.value).any()}
    drawn = known or dict(list(series.items())[:1])
    note = "states that are called bimodal" if known else "no state is called bimodal"
    return finish(lines(drawn, "state", "share that flips"), TITLE, described(drawn, "state"), note)
