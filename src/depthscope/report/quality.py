"""Verdict on tasks: whether states before the last give better vectors than the last."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]


def earlier_or_last(results: Results) -> Verdict:
    """For each task whether an earlier state wins, the last wins, or neither: the sign of gain in every mode.

    The gain is that of the task's main score, with the state chosen on other items than it is judged on. A task is
    decided where the intervals of all modes lie on the same side of 0.
    """
    topic = "Whether an earlier state beats the last in tasks"
    result = results["layer_quality"]
    gain = result["gain"]
    sides: dict[str, list[str]] = {"earlier": [], "last": [], "open": []}
    because: list[str] = []
    for task in np.asarray(gain.axes["task"]).tolist():
        score = main_score(result, task)
        cells = {
            mode: Cell.of(gain, task=task, score=score, mode=mode)
            for mode in np.asarray(gain.axes["mode"]).tolist()
        }
        side = _side(list(cells.values()))
        sides[side].append(task if side != "earlier" else f"{task}{_where(result, task, score, cells)}")
        because += [f"{task}, {score}, {mode}: {cell.said('+.3f')}" for mode, cell in cells.items()]
    words = [
        f"{said} in {', '.join(sides[side])}"
        for side, said in (
            ("earlier", "an earlier state beats the last"),
            ("last", "the last state beats all earlier ones"),
            ("open", "not decided"),
        )
        if sides[side]
    ]
    decided = bool(sides["earlier"] or sides["last"])
    told = "; ".join(words)
    grounds = f"layer_quality/gain: {'; '.join(because)}. The threshold is 0, in every mode."
    return Verdict(topic, f"{told[0].upper()}{told[1:]}.", decided, grounds)


def main_score(result: Result, task: str) -> str:
    """The task's main score: the first in the order of scores that the task has."""
    found = result["score"].select(task=task)
    has = np.isfinite(found.value).any(axis=(1, 2))
    return str(np.asarray(found.axes["score"])[has.argmax()])


def _side(cells: list[Cell]) -> str:
    if all(cell.low > 0 for cell in cells):
        return "earlier"
    return "last" if all(cell.high < 0 for cell in cells) else "open"


def _where(result: Result, task: str, score: str, cells: Mapping[str, Cell]) -> str:
    """The best state and the gain in the first mode."""
    mode, cell = next(iter(cells.items()))
    best = result["best_state"].at(task=task, score=score, mode=mode)
    last = np.asarray(result["score"].axes["state"]).max()
    return f" (best at state {best:g} of {last}, {cell.value:+.3f} in {mode})"
