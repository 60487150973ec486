"""Maps of tasks: a row a task, what is compared across, a share as colour."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from depthscope.charts.maps import heat_map
from depthscope.charts.specification import Spec, finish
from depthscope.charts.table import present
from depthscope.results.result import Result


class Across(NamedTuple):
    """What goes across: the axis, what it is called, and what the colour means."""

    axis: str
    words: str
    colour: str


def task_map(result: Result, name: str, across: Across, title: str, **at: str) -> Spec:
    """A measurement over tasks and one further axis, at one label of each other axis; empty where it has no value."""
    found = present(result, (name,))[name].select(**at)
    layer, note = heat_map(found, {"task": "task", across.axis: across.words}, across.colour)
    height = max(160, 26 * len(found.axes["task"]))
    return finish([layer], title, _told(found.value, across), note, height=height)


def _told(value: np.ndarray, across: Across) -> str:
    there = int(np.isfinite(value).any(1).sum())
    best = f"; the highest is {np.nanmax(value):.3g}" if there else ""
    return (
        f"Map of {len(value)} tasks by {across.words}: {across.colour}. {there} of them have a value{best}."
    )
