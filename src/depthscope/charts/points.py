"""Points with intervals over names, and over a quantity: what is compared without an order of depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from depthscope.charts.axes import colours, shapes, tooltip, with_unit, y_axis, y_scale
from depthscope.charts.specification import Row, Spec
from depthscope.charts.table import rows
from depthscope.results.measurement import Measurement


def points(
    series: Mapping[str, Measurement], axis: str, across: str, y: str, names: Mapping[str, str] | None = None
) -> list[Spec]:
    """Per series a point with its interval at every label of an axis, side by side.

    Args:
        series: name on the chart -> measurement over that one axis; all of one unit. across, y: titles of the axes.
        names: what labels are called on the chart.
    """
    first = next(iter(series.values()))
    said = dict(names or {})
    table = [
        row | {axis: said.get(str(row[axis]), str(row[axis]))}
        for name, found in series.items()
        for row in rows(found, series=name)
        if row["value"] is not None
    ]
    order = [said.get(str(label), str(label)) for label in np.asarray(first.axes[axis]).tolist()]
    turned = {"labelAngle": -35, "labelLimit": 160}
    x = {"field": axis, "type": "nominal", "title": across, "scale": {"domain": order}, "axis": turned}
    apart = {"field": "series", "type": "nominal", "scale": {"domain": list(series)}}
    place = {"x": x} | ({"xOffset": apart} if len(series) > 1 else {})
    return _drawn(table, place, list(series), axis, with_unit(y, first.unit))


def against(
    found: Measurement, size: Measurement, shared: str, colour: str, across: str, y: str
) -> list[Spec]:
    """A measurement over two axes against a quantity that one of them has, on a logarithmic scale; the other colours.

    Args:
        shared: the axis of both. colour: the other axis of `found`. across, y: titles of the axes.
    """
    sizes = dict(zip(np.asarray(size.axes[shared]).tolist(), size.value.tolist(), strict=True))
    table = [
        row | {"size": sizes[row[shared]], "series": f"{colour} {row[colour]}"}
        for row in rows(found)
        if row["value"] is not None and sizes[row[shared]] > 0
    ]
    names = [f"{colour} {label}" for label in np.asarray(found.axes[colour]).tolist()]
    x = {"field": "size", "type": "quantitative", "title": across, "scale": {"type": "log", "nice": False}}
    more = [{"field": "size", "type": "quantitative", "title": across, "format": "~s"}]
    return _drawn(table, {"x": x}, names, shared, with_unit(y, found.unit), more)


def ranked(found: Measurement, axis: str) -> str:
    """One sentence for readers who do not see the chart: the lowest and the highest label of a measurement over it."""
    labels, value = np.asarray(found.axes[axis]), np.asarray(found.value, np.float64)
    if not np.isfinite(value).any():
        return f"No value of {len(labels)} labels."
    low, high = int(np.nanargmin(value)), int(np.nanargmax(value))
    return f"Lowest {value[low]:.3g} ({labels[low]}), highest {value[high]:.3g} ({labels[high]}) of {len(labels)}."


def _drawn(
    table: Sequence[Row], place: Spec, names: Sequence[str], axis: str, title: str, more: Sequence[Spec] = ()
) -> list[Spec]:
    y = y_axis(y_scale(list(table), "auto"), title)
    legend = {"orient": "top", "title": None} if len(names) > 1 else None
    told = [one for one in tooltip(axis, title, *more) if one["field"] != "depth"]
    look = {"color": colours(names, legend), "shape": shapes(names, legend)}
    data = {"values": list(table)}
    ends = {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": look["color"]}
    mark = {"type": "point", "filled": True, "size": 60, "opacity": 1}
    return [
        {"data": data, "mark": {"type": "rule"}, "encoding": place | ends},
        {"data": data, "mark": mark, "encoding": place | look | {"y": y, "tooltip": told}},
    ]
