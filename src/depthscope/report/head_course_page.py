"""Atlases of the checkpoints of one training on the page of a comparison, in a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from depthscope.charts import lines
from depthscope.report.head_comparison import DERIVED
from depthscope.report.head_course import HeadCourse
from depthscope.report.heads_part import HeadsPart, drawn_chart
from depthscope.report.sections import Chart
from depthscope.report.tables import PageTable, number
from depthscope.results.measurement import Measurement

DRAWN = 7
"""Lines of one chart."""


def course_data(course: HeadCourse) -> dict[str, Any]:
    """The course as JSON values."""
    found: dict[str, Any] = {
        "steps": np.asarray(course.top.axes["step"]).tolist(),
        "score_top": _by(course.top, "score", 1),
        "role_share": _by(course.share, "role", 1),
        **{m.name: _by(m, "role", 0) for m in (course.birth, course.kept, course.kept_birth)},
    }
    if course.behaviour is not None:
        found["behaviour"] = _by(course.behaviour, "score", 1)
    if course.onset is not None:
        found[course.onset.name] = _by(course.onset, "score", 0)
    return found


def _by(found: Measurement, axis: str, place: int) -> dict[str, Any]:
    return {str(name): found.value.take(k, place).tolist() for k, name in enumerate(found.axes[axis])}


def course_part(course: HeadCourse) -> HeadsPart:
    """Sentences, charts and tables of a course."""
    steps = np.asarray(course.top.axes["step"])
    birth = course.birth
    born = {str(r): float(v) for r, v in zip(birth.axes["role"], birth.value, strict=True) if np.isfinite(v)}
    order = sorted(born, key=lambda name: born[name])
    said = ", then ".join(f"{name.replace('_', ' ')} (step {born[name]:g})" for name in order)
    sentence = (
        f"Labels in the order in which they came to stay: {said}."
        if said
        else "Not decided: no label is held by any head at the last step."
    )
    charts = (_course_chart(course.share, "role", "share of heads", order), _top_chart(course))
    title = f"Heads over the steps {steps[0]} to {steps[-1]}"
    said_all = (sentence, *_onsets_said(course))
    return HeadsPart(title, said_all, tuple(c for c in charts if c is not None), course_tables(course))


def _onsets_said(course: HeadCourse) -> tuple[str, ...]:
    """When what the model can do sets in, one sentence; what came first between two checkpoints is not seen."""
    if course.onset is None:
        return ()
    when = {str(n): float(v) for n, v in zip(course.onset.axes["score"], course.onset.value, strict=True)}
    there = sorted((name for name in when if np.isfinite(when[name])), key=lambda name: when[name])
    told = ", ".join(f"{name} (step {when[name]:g})" for name in there)
    return (f"What the model can do sets in: {told}." if told else "Nothing that the model can do sets in.",)


def course_tables(course: HeadCourse) -> tuple[PageTable, ...]:
    """Births of labels; shares of labels and tops of scores by step."""
    labels = [str(name) for name in course.birth.axes["role"]]
    born = zip(labels, course.birth.value, course.kept.value, course.kept_birth.value, strict=True)
    births = PageTable(
        "Birth of labels",
        ("label", "step", "heads at the last step", "median of their steps"),
        tuple((name.replace("_", " "), *map(number, map(float, cells))) for name, *cells in born),
        note=f"{course.birth.note}; {course.kept_birth.note}. Steps between two checkpoints are not seen.",
    )
    grids = [
        _grid(course.share, "role", "Share of heads with each label"),
        _grid(course.top, "score", "Largest scores"),
    ]
    if course.behaviour is not None:
        grids.append(_grid(course.behaviour, "score", "What the model can do"))
    return births, *grids


def _grid(found: Measurement, axis: str, caption: str) -> PageTable:
    steps = [str(step) for step in found.axes["step"]]
    rows = tuple(
        (str(name), *(number(float(v)) for v in found.value[:, k])) for k, name in enumerate(found.axes[axis])
    )
    return PageTable(f"{caption} by step", (axis, *steps), rows, note=found.note)


def _top_chart(course: HeadCourse) -> Chart | None:
    """The scores that move most, of those between 0 and 1."""
    found = course.top
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(found.value).all(0) & (np.abs(found.value) <= 1).all(0)
    inside &= np.array([not str(name).endswith(DERIVED) for name in found.axes["score"]])
    moved = np.where(inside, np.ptp(np.nan_to_num(found.value), axis=0), -1.0)
    names = [str(found.axes["score"][k]) for k in np.argsort(-moved) if moved[k] > 0]
    return _course_chart(found, "score", "mean of the heads with the largest values", names)


def _course_chart(found: Measurement, axis: str, title: str, names: Sequence[str]) -> Chart | None:
    if not names:
        return None
    series = {name.replace("_", " "): found.select(**{axis: name}) for name in names[:DRAWN]}
    left = f" {DRAWN} of {len(names)} are drawn." if len(names) > DRAWN else ""
    said = f"{title} by step: {', '.join(series)}.{left}"
    return drawn_chart(f"{title.capitalize()} over the training", lines(series, "step", title), said)
