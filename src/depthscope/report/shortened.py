"""Verdict on a shortened model: whether it keeps every task within its margin, by paired intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

NAMED = 4
"""So many tasks are named when several fail."""


def tasks_kept(results: Mapping[str, Result]) -> Verdict:
    """Whether the shortened model keeps its tasks: each interval of the change against what may be lost."""
    topic = "Whether the shortened model keeps its tasks"
    found = results["prune"]
    gone = f"Without {_removed(found)}, "
    if "difference" not in found.findings.measurements:
        return Verdict(
            topic, "Not decided: nothing was verified by tasks, and loss says little of them.", False, ""
        )
    change, margin = found["difference"], found["margin"]
    tasks = [str(task) for task in change.axes["task"]]
    cells = {task: Cell.of(change, task=task) for task in tasks}
    limits = {task: Cell.of(margin, task=task).value for task in tasks}
    because = "; ".join(
        f"prune/difference of {t} is {cells[t].said('+.3f')}, margin {limits[t]:g}" for t in tasks
    )
    failing = [t for t in tasks if cells[t].high < -limits[t]]
    if failing:
        named = ", ".join(failing[:NAMED]) + (" and more" if len(failing) > NAMED else "")
        return Verdict(topic, f"{gone}no: more is lost than may be on {named}.", True, because)
    if all(cells[t].low > -limits[t] for t in tasks):
        return Verdict(topic, f"{gone}yes: every task stays within its margin.", True, because)
    open_ = [t for t in tasks if cells[t].low <= -limits[t]]
    return Verdict(topic, f"Not decided: too few items for {', '.join(open_[:NAMED])}.", False, because)


def _removed(found: Result) -> str:
    sizes, chosen = found["layers_removed"].value, found["chosen"].value
    count = int(np.asarray(sizes)[np.asarray(chosen) == 1][0])
    return f"{count} layer{'s' if count > 1 else ''}"
