"""When the options of a question gather probability, against letters that nothing offers."""

from __future__ import annotations

import numpy as np

from depthscope.charts import COLOURS, Spec, described, finish, lines, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("option_depth",)
READS = ("option_mass",)
TITLE = "Probability of the options"
ASKED, CONTROLS = ("few_shot", "zero_shot"), ("unused_letters", "elsewhere")


def plot(result: Result) -> Spec:
    """Summed probability of the options by state: each task as it was asked, and the first task's controls."""
    found = present(result, READS)["option_mass"]
    tasks, modes = (np.asarray(found.axes[axis]).tolist() for axis in ("task", "mode"))
    asked = next((mode for mode in ASKED if mode in modes), modes[0])
    series = {str(task): found.select(task=task, mode=asked) for task in tasks}
    for mode in CONTROLS:
        if mode in modes:
            series[f"{tasks[0]}, {mode.replace('_', ' ')}"] = found.select(task=tasks[0], mode=mode)
    known = {name: one for name, one in list(series.items())[: len(COLOURS)] if _known(one)} or series
    return finish(lines(known, "state", "probability of all options"), TITLE, described(known, "state"))


def _known(found: Measurement) -> bool:
    return bool(np.isfinite(found.value).any())
