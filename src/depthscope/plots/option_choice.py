"""When one option is chosen: how often the best option is already the final one, and how often the right one."""

from __future__ import annotations

import numpy as np

from depthscope.charts import COLOURS, Spec, described, finish, lines, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("option_depth",)
READS = ("restricted_agreement", "restricted_accuracy")
TITLE = "The choice among the options"
ASKED = ("few_shot", "zero_shot")
WORDS = {"restricted_agreement": "final choice", "restricted_accuracy": "right"}


def plot(result: Result) -> Spec:
    """Share of questions whose best option is the final or the right one, by state; the mean overtake is in words."""
    found = present(result, READS)
    series: dict[str, Measurement] = {}
    for name, one in found.items():
        modes = np.asarray(one.axes["mode"]).tolist()
        asked = next((mode for mode in ASKED if mode in modes), modes[0])
        for task in np.asarray(one.axes["task"]).tolist():
            series[f"{task}: {WORDS[name]}"] = one.select(task=task, mode=asked)
    drawn = dict(list(series.items())[: len(COLOURS)])
    return finish(
        lines(drawn, "state", "share of questions"), TITLE, described(drawn, "state"), _overtake(result)
    )


def _overtake(result: Result) -> str:
    """At which state the winner takes the lead for good, by task."""
    found = result.findings.measurements.get("overtake")
    if found is None:
        return ""
    modes = np.asarray(found.axes["mode"]).tolist()
    asked = next((mode for mode in ASKED if mode in modes), modes[0])
    said = {
        task: float(found.select(task=task, mode=asked).value)
        for task in np.asarray(found.axes["task"]).tolist()
    }
    known = [f"{task} at {state:.1f}" for task, state in said.items() if np.isfinite(state)]
    return f"mean state of the overtake: {', '.join(known)}" if known else ""
