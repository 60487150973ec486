"""Maps of tasks: a row a task, what is compared across, a share as colour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from depthscope.charts.maps import heat_map
from depthscope.charts.specification import Spec, finish
from depthscope.charts.table import present
from depthscope.results.measurement import COLUMNS, Measurement
from depthscope.results.result import Result


class Across(NamedTuple):
    """What goes across: the axis, what it is called, and what the colour means."""

    axis: str
    words: str
    colour: str


def task_map(result: Result, name: str, across: Across, title: str, **at: str) -> Spec:
    """A measurement over tasks and one further axis, at one label of each other axis; empty where it has no value.

    Tasks without any value are left out of the map and named below its title.
    """
    whole = present(result, (name,))[name].select(**at)
    found, silent = _with_values(whole)
    layer, note = heat_map(found, {"task": "task", across.axis: across.words}, across.colour)
    height = max(120, 26 * len(found.axes["task"]))
    notes = (f"without a value: {', '.join(silent)}" if silent else "", note)
    return finish([layer], title, _told(whole.value, across), "; ".join(filter(None, notes)), height=height)


def _with_values(found: Measurement) -> tuple[Measurement, list[str]]:
    """The tasks that have a value, and the names of the others; all of them where none has one."""
    at = list(found.axes).index("task")
    there = np.isfinite(np.moveaxis(found.value, at, 0)).reshape(len(found.axes["task"]), -1).any(1)
    if there.all() or not there.any():
        return found, []
    names = np.asarray(found.axes["task"])
    parts: dict[str, Any] = {
        name: None if (v := getattr(found, name)) is None else np.compress(there, v, axis=at)
        for name in COLUMNS
    }
    return replace(found, axes={**found.axes, "task": names[there]}, **parts), names[~there].astype(
        str
    ).tolist()


def _told(value: np.ndarray, across: Across) -> str:
    there = int(np.isfinite(value).any(1).sum())
    best = f"; the highest is {np.nanmax(value):.3g}" if there else ""
    return (
        f"Map of {len(value)} tasks by {across.words}: {across.colour}. {there} of them have a value{best}."
    )
