"""Lines with bands of uncertainty over depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from depthscope.charts.axes import colours, fraction, shapes, tooltip, with_unit, x_axis, y_axis, y_scale
from depthscope.charts.specification import HEIGHT, Row, Spec
from depthscope.charts.table import rows
from depthscope.results.measurement import Measurement


def lines(series: Mapping[str, Measurement], axis: str, y: str, kind: str = "linear") -> list[Spec]:
    """The layers of a line chart: per series its interval band, its line, its points and its name at the end.

    Args:
        series: name on the chart -> measurement over that one axis; all of one unit.
        axis: "state", "layer" or "level".
        y: title of the y axis, without the unit.
        kind: of the y scale, see `y_scale`.

    Raises:
        BadInput: when there are more series than colours that can be told apart.
    """
    table = [row for name, found in series.items() for row in rows(found, series=name)]
    title, names = with_unit(y, next(iter(series.values())).unit), list(series)
    scale = y_scale(table, kind)
    x, height, colour = x_axis(axis, table), y_axis(scale, title), colours(names)
    data = {"values": table}
    shared = {"data": data, "transform": [{"filter": "isValid(datum.value)"}]}
    band = {"y": height | {"field": "low"}, "y2": {"field": "high"}, "x": x, "color": colour}
    dots = {"x": x, "y": height, "color": colour, "shape": shapes(names), "tooltip": tooltip(axis, title)}
    return [
        shared | {"mark": {"type": "area", "opacity": 0.18}, "encoding": band},
        shared
        | {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": height, "color": colour}},
        shared | {"mark": {"type": "point", "filled": True, "size": 38, "opacity": 1}, "encoding": dots},
        *_end_labels(table, names, axis, scale),
    ]


def spread_out(
    found: Measurement, axis: str, label: str, most: int = 5
) -> tuple[dict[str, Measurement], str]:
    """At most `most` labels of an axis, evenly from first to last, as named series; and a note if some are left out.

    Args:
        label: format of a name, such as "p = {:.2g}".
    """
    labels = np.asarray(found.axes[axis])
    places = np.linspace(0, len(labels) - 1, min(most, len(labels))).round().astype(int)
    drawn = labels[np.unique(places)].tolist()
    note = f"{len(drawn)} of {len(labels)} levels" if len(drawn) < len(labels) else ""
    return {label.format(one): found.select(**{axis: one}) for one in drawn}, note


def at_middle_level(found: Measurement) -> tuple[dict[str, Measurement], float]:
    """One series a variant at the middle one of its levels, and that level."""
    levels = np.sort(np.asarray(found.axes["level"]))
    level = float(levels[len(levels) // 2])
    variants = np.asarray(found.axes["variant"]).tolist()
    return {str(name): found.select(variant=name, level=level) for name in variants}, level


def dashed(value: float, words: str) -> list[Spec]:
    """A dashed line across the chart at a value, with `words` on hover; nothing for a missing value."""
    if not math.isfinite(value):
        return []
    mark = {"type": "rule", "opacity": 0.5, "strokeDash": [3, 3], "tooltip": words, "clip": True}
    encoding = {"y": {"field": "value", "type": "quantitative"}}
    return [{"data": {"values": [{"value": value}]}, "mark": mark, "encoding": encoding}]


def described(series: Mapping[str, Measurement], axis: str) -> str:
    """One sentence per series for readers who do not see the chart: first, last, lowest and highest value."""
    return " ".join(f"{name}: {_course(found, axis)}" for name, found in series.items())


def _course(found: Measurement, axis: str) -> str:
    labels, values = np.asarray(found.axes[axis]), found.value.ravel()
    seen = np.flatnonzero(np.isfinite(values))
    if len(seen) == 0:
        return "no value."
    low, high = seen[values[seen].argmin()], seen[values[seen].argmax()]
    first, last = seen[0], seen[-1]
    unit = "" if found.unit == "1" else f" {found.unit}"
    return (
        f"{values[first]:.3g}{unit} at {axis} {labels[first]}, {values[last]:.3g} at {axis} {labels[last]}; "
        f"lowest {values[low]:.3g} at {labels[low]}, highest {values[high]:.3g} at {labels[high]}."
    )


def _end_labels(table: Sequence[Row], names: Sequence[str], axis: str, scale: Spec) -> list[Spec]:
    """Series names right of the last points, moved apart where they would overlap; none for one series."""
    last = {row["series"]: row for row in sorted(table, key=lambda r: r[axis]) if row["value"] is not None}
    if len(names) < 2 or not last:
        return []
    means = {name: np.mean([r["value"] or 0.0 for r in table if r["series"] == name]) for name in last}
    top_down = sorted(last.values(), key=lambda row: (row["value"], means[row["series"]]), reverse=True)
    places: list[float] = []
    for row in top_down:
        wanted = HEIGHT * (1 - fraction(row["value"], scale))
        places.append(max(wanted, places[-1] + 14 if places else 0.0))
    over = max(0.0, places[-1] - HEIGHT)
    values = [{"series": row["series"], "pixel": at - over} for row, at in zip(top_down, places, strict=True)]
    spot = {
        "x": {"value": "width"},
        "y": {"field": "pixel", "type": "quantitative", "scale": None, "axis": None},
    }
    mark = {"type": "text", "align": "left", "baseline": "middle", "fontSize": 11.5}
    key = {
        "mark": mark | {"dx": 3},
        "encoding": spot | {"text": {"value": "\N{BLACK CIRCLE}"}, "color": colours(names)},
    }
    words = {"mark": mark | {"dx": 14}, "encoding": spot | {"text": {"field": "series", "type": "nominal"}}}
    return [{"data": {"values": values}} | layer for layer in (key, words)]
