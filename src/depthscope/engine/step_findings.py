"""What several runs of one training measured, laid over each other along an axis `step`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from depthscope.measures.head_pairing import birth_step
from depthscope.results.measurement import COLUMNS, Measurement
from depthscope.results.result import Findings
from depthscope.store.run import Run

NEAR = 0.1
"""Share of its whole range within which a value counts as that of the end."""
LARGEST = 200_000
"""Cells of a measurement over steps beyond which it is left out, and said so."""


def over_steps(runs: Sequence[Run], steps: Sequence[int]) -> Findings:
    """Every measurement that all runs have with equal labels, with `step` as its first axis; then changes by depth.

    A name that two analyses share is written ANALYSIS_NAME.
    """
    shared, left = _shared(runs)
    found: dict[str, Measurement] = {}
    for name, each in shared.items():
        one = stacked(name, each, steps)
        if one.value.size > LARGEST:
            left.append(name)
            continue
        found[name] = one
    changed = {m.name: m for one in found.values() for m in (*changes(one), *births(one))}
    notes = (f"{len(steps)} checkpoints, from step {steps[0]} to {steps[-1]}",)
    if left:
        notes = (
            *notes,
            f"left out, since checkpoints differ in their labels or there are too many: {', '.join(left)}",
        )
    return Findings(found | changed, notes=notes)


def stacked(name: str, each: Sequence[Measurement], steps: Sequence[int]) -> Measurement:
    """Measurements of equal axes as one with the axis `step` first; an interval where all have one."""
    axes = {"step": np.asarray(steps, np.int64), **each[0].axes}
    parts: dict[str, Any] = {part: _together([getattr(m, part) for m in each]) for part in COLUMNS}
    missing = next((m.missing for m in each if m.missing), "")
    return Measurement(name, axes, unit=each[0].unit, note=each[0].note, missing=missing, **parts)


def _together(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [part for part in parts if part is not None]
    return np.stack(there) if len(there) == len(parts) else None


def changes(found: Measurement) -> tuple[Measurement, ...]:
    """Total change and settling step of a curve over depth with an interval; nothing for any other measurement.

    NAME_total_change = sum over successive steps of |difference|; NAME_settled_step = the first step from which on the
    value stays within NEAR of its range over all steps of its last value; the first step where it never moves.
    """
    inner = {axis: labels for axis, labels in found.axes.items() if axis != "step"}
    deep = [axis for axis in inner if axis in ("state", "layer")]
    if len(deep) != 1 or "head" in inner or found.low is None or len(found.axes["step"]) < 2:
        return ()
    total = np.abs(np.diff(found.value, axis=0)).sum(0)
    note = "sum over successive checkpoints of the size of the change"
    lost = found.missing or "missing at some step"
    change = Measurement(f"{found.name}_total_change", inner, total, found.unit, note=note, missing=lost)
    said = f"first step from which on the value stays within {NEAR:g} of its range of its last value"
    when = np.where(np.isfinite(total), settled(found.value, np.asarray(found.axes["step"])), np.nan)
    return change, Measurement(f"{found.name}_settled_step", inner, when, "1", note=said, missing=lost)


def births(found: Measurement) -> tuple[Measurement, ...]:
    """Of labels of heads over steps (`role` of an atlas): the step from which on some head has each; else nothing."""
    if list(found.axes) != ["step", "role", "layer", "head"] or len(found.axes["step"]) < 2:
        return ()
    steps = np.asarray(found.axes["step"])
    there = np.asarray((np.nan_to_num(found.value) > 0).any((2, 3)), np.float64)
    note = "first step from which on some head has the label at every step"
    when = birth_step(there, steps)
    roles = {"role": found.axes["role"]}
    return (
        Measurement(
            f"{found.name}_birth", roles, when, "1", note=note, missing="no head has it at the last step"
        ),
    )


def settled(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The step at which each column of [step, ...] comes to stay near its last value."""
    reach = NEAR * (values.max(0) - values.min(0))
    away = np.abs(values - values[-1]) > reach
    last_away = np.where(away.any(0), len(steps) - 1 - away[::-1].argmax(0), -1)
    return steps[last_away + 1].astype(np.float64)


def _shared(runs: Sequence[Run]) -> tuple[dict[str, list[Measurement]], list[str]]:
    """Measurements of all runs by name, and the names of those whose labels differ."""
    each = [{(a, n): m for a in run for n, m in run[a].findings.measurements.items()} for run in runs]
    every = [key for key in each[0] if all(key in other for other in each)]
    often = Counter(name for _, name in every)
    found: dict[str, list[Measurement]] = {}
    left: list[str] = []
    for analysis, name in every:
        several = [held[analysis, name] for held in each]
        called = name if often[name] == 1 else f"{analysis}_{name}"
        if all(_labels(m) == _labels(several[0]) for m in several):
            found[called] = several
        else:
            left.append(called)
    return found, left


def _labels(found: Measurement) -> list[tuple[str, list[object]]]:
    return [(axis, np.asarray(labels).tolist()) for axis, labels in found.axes.items()]
