"""What all plots share: rows from a measurement, axes, lines with bands, and the finished specification.

Each other file of this folder is one plot: `SUITS` names the analyses it reads, `READS` their measurements,
`TITLE` is what it shows, and `plot(result)` returns a Vega-Lite specification as a dictionary, which
`altair.Chart.from_dict` shows in a notebook. Tests check every plot against altair's schema; a page does not,
since that takes longer than all the rest of it.

Colours are those of Okabe and Ito (2008, "Color universal design") and viridis; text and grid are
`currentColor`, so a chart takes the colour of the page it stands on, light or dark. The width follows the
container.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from depthscope.errors import BadInput
from depthscope.results.measurement import COLUMNS, Measurement
from depthscope.results.result import Result

HEIGHT = 260
"""Height of a chart's inner area in pixels."""

CELLS = 2_000
"""The most rows a chart may hold; maps are thinned to it, with a note."""

ROUNDING = 1e-4
"""Shares of the largest value below this count as zero when a scale is chosen."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke")

AXIS_TITLES = {
    "state": "state (0 = embedding, k = after layer k\N{MINUS SIGN}1)",
    "layer": "layer",
    "later_layer": "later layer",
    "head": "head",
    "level": "level of difficulty",
    "kept": "layers left",
}

Spec = dict[str, Any]
Row = dict[str, Any]


def present(result: Result, names: Sequence[str]) -> dict[str, Measurement]:
    """Those of the named measurements that the result has.

    Raises:
        BadInput: when it has none of them.
    """
    there = {name: result[name] for name in names if name in result.findings.measurements}
    if not there:
        raise BadInput(f"{result.analysis} holds none of {', '.join(names)}; run it again with this version.")
    return there


def split(found: Measurement, axis: str) -> dict[str, Measurement]:
    """Label -> the measurement at that label of an axis, in the order of the axis."""
    return {str(label): found.select(**{axis: label}) for label in found.axes[axis]}


def rows(found: Measurement, **fixed: Any) -> list[Row]:
    """One row per cell: labels, value, low, high, n, n_items (None where missing), depth, and `fixed`."""
    columns = {name: np.asarray(values).tolist() for name, values in found.columns().items()}
    deep = next((axis for axis in ("state", "layer") if axis in found.axes), None)
    depth = relative_depth(found, deep) if deep else {}
    table: list[Row] = []
    for i in range(len(columns["value"])):
        row = {name: _plain(values[i]) for name, values in columns.items()}
        table.append(row | ({"depth": depth[row[deep]]} if deep else {}) | fixed)
    return table


def relative_depth(found: Measurement, axis: str) -> dict[Any, float]:
    """Label -> depth in [0, 1]: s / L for states, (layer + 1) / L for layers; the last label gives L."""
    labels = np.asarray(found.axes[axis]).tolist()
    shift = 1 if axis == "layer" else 0
    last = max(labels, default=0) + shift
    return {label: (label + shift) / last if last else 0.0 for label in labels}


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


def dashed(value: float, words: str) -> list[Spec]:
    """A dashed line across the chart at a value, with `words` on hover; nothing for a missing value."""
    if not math.isfinite(value):
        return []
    mark = {"type": "rule", "opacity": 0.5, "strokeDash": [3, 3], "tooltip": words, "clip": True}
    encoding = {"y": {"field": "value", "type": "quantitative"}}
    return [{"data": {"values": [{"value": value}]}, "mark": mark, "encoding": encoding}]


def with_unit(words: str, unit: str) -> str:
    """An axis title: the words, then the unit unless it is 1."""
    return words if unit == "1" else f"{words} ({unit})"


def y_scale(table: Sequence[Row], kind: str = "linear") -> Spec:
    """A scale that holds all values and intervals.

    Args:
        table: rows with value, low and high.
        kind: "linear" starts at zero unless zero is far. "log" wants positive values. "auto" is logarithmic where
            positive values span more than a hundredfold, linear near zero and logarithmic beyond (symlog) where
            a few tower over the median and some are not positive, else linear. Values that are too small to be
            told from rounding count as zero.
    """
    found = [row[part] for row in table for part in ("value", "low", "high") if row.get(part) is not None]
    low, high = min(found, default=0.0), max(found, default=1.0)
    typical = float(np.median(np.abs(found or [1.0])))
    positive = low > (ROUNDING * high if kind == "auto" else 0)
    if (kind == "log" and positive) or (kind == "auto" and positive and high > 100 * low):
        return {"type": "log", "domain": [low / 1.1, high * 1.1], "nice": False}
    if kind == "auto" and not positive and 0 < 5 * typical < high:
        return {
            "type": "symlog",
            "constant": typical,
            "domain": [min(0.0, 1.2 * low), 1.1 * high],
            "nice": False,
        }
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    near_zero = 0 <= low <= high / 2
    return {"type": "linear", "domain": [0.0 if near_zero else low - margin, high + margin], "nice": False}


def y_axis(scale: Spec, title: str) -> Spec:
    """The value axis: few ticks in plain numbers, at powers of ten where the scale is logarithmic."""
    low, high = scale["domain"]
    axis: Spec = {"tickCount": 6, "format": ".6~g"}
    if scale["type"] != "linear":
        least = low if scale["type"] == "log" else scale["constant"] / 3
        powers = [10.0**k for k in range(math.ceil(math.log10(least)), math.floor(math.log10(high)) + 1)]
        if len(powers) < 4:
            powers = sorted([*powers, *(3 * power for power in powers if 3 * power <= high)])
        below = [] if scale["type"] == "log" else [0.0, *(-power for power in powers if -power >= low)]
        axis |= {"values": [*below, *powers]} if len(powers) > 1 else {}
    return {"field": "value", "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def x_axis(axis: str, table: Sequence[Row], field: str = "") -> Spec:
    """The depth axis: whole numbers from the first to the last label."""
    labels = [row[axis] for row in table]
    domain = [min(labels, default=0) - 0.4, max(labels, default=1) + 0.4]
    ticks = {"tickMinStep": 1, "format": "d", "grid": False, "labelOverlap": True}
    scale = {"domain": domain, "nice": False, "zero": False}
    words = {"field": field or axis, "title": AXIS_TITLES[axis]}
    return words | {"type": "quantitative", "scale": scale, "axis": ticks}


def colours(names: Sequence[str], legend: Spec | None = None) -> Spec:
    """One colour per series, in order; no legend where the lines carry their names."""
    if len(names) > len(COLOURS):
        raise BadInput(
            f"a chart holds at most {len(COLOURS)} series, {len(names)} were given: {', '.join(names)}."
        )
    scale = {"domain": list(names), "range": list(COLOURS[: len(names)])}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": legend}


def shapes(names: Sequence[str], legend: Spec | None = None) -> Spec:
    """One shape per series, in order: the second sign beside colour."""
    scale = {"domain": list(names), "range": list(SHAPES[: len(names)])}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": legend}


def tooltip(axis: str, title: str, *more: Spec) -> list[Spec]:
    """Series, label, relative depth, `more`, the value with its interval, and both counts."""
    number = {"type": "quantitative", "format": ".4~g"}
    return [
        {"field": "series", "type": "nominal"},
        {"field": axis, "type": "ordinal"},
        *([] if axis == "level" else [{"field": "depth", "type": "quantitative", "format": ".0%"}]),
        *more,
        {"field": "value", "title": title, **number},
        {"field": "low", "title": "interval from", **number},
        {"field": "high", "title": "to", **number},
        {"field": "n", "type": "quantitative", "format": "~d"},
        {"field": "n_items", "title": "items", "type": "quantitative", "format": "~d"},
    ]


def thin(found: Measurement, *axes: str) -> tuple[Measurement, str]:
    """The measurement with every k-th label of `axes`, so that it fits CELLS; and a note, or nothing."""
    step, longest = 1, max(len(found.axes[axis]) for axis in axes)
    while math.prod(-(-len(v) // step) if a in axes else len(v) for a, v in found.axes.items()) > CELLS:
        step += 1
        if step > longest:
            raise BadInput(
                f"{found.name} has {found.value.size} cells, a chart holds {CELLS}; see its table."
            )
    if step == 1:
        return found, ""
    index = tuple(slice(None, None, step) if axis in axes else slice(None) for axis in found.axes)
    kept = {axis: np.asarray(v)[::step] if axis in axes else v for axis, v in found.axes.items()}
    parts: dict[str, Any] = {p: None if (v := getattr(found, p)) is None else v[index] for p in COLUMNS}
    note = f"one in {step} labels of {' and '.join(axes)} is drawn; the table has all"
    return replace(found, axes=kept, **parts), note


def pair_map(found: Measurement) -> tuple[Spec, str, str]:
    """A map of skipped layer (down) by later layer (across): its layer, what it shows in words, and a note if thinned.

    Cells without a value stay empty. Colours are linear near the median and logarithmic beyond, since one layer often
    towers over the rest.
    """
    drawn, note = thin(found, "layer", "later_layer")
    title, amount = with_unit("effect", found.unit), {"field": "value", "type": "quantitative"}
    typical = float(np.nanmedian(np.abs(drawn.value))) if np.isfinite(drawn.value).any() else 0.0
    scale = {"scheme": "viridis"} | ({"type": "symlog", "constant": typical} if typical > 0 else {})
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": title}
    words = {"layer": "skipped layer", "later_layer": "later layer"}
    tips: list[Spec] = [{"field": a, "type": "ordinal", "title": word} for a, word in words.items()]
    tips += [
        amount | {"title": title, "format": ".4~g"},
        {"field": "n", "type": "quantitative", "format": "~d"},
    ]
    encoding = {
        "x": _labels_of(drawn, "later_layer", words["later_layer"]),
        "y": _labels_of(drawn, "layer", words["layer"]),
        "color": amount | {"scale": scale, "legend": legend},
        "tooltip": tips,
    }
    values = [row for row in rows(drawn) if row["value"] is not None]
    return (
        {"data": {"values": values}, "mark": {"type": "rect"}, "encoding": encoding},
        _largest_pair(found),
        note,
    )


def _labels_of(found: Measurement, axis: str, title: str) -> Spec:
    shown = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    labels = np.asarray(found.axes[axis]).tolist()
    return {"field": axis, "type": "ordinal", "title": title, "axis": shown, "scale": {"domain": labels}}


def _largest_pair(found: Measurement) -> str:
    if not np.isfinite(found.value).any():
        return f"Map of {len(found.axes['layer'])} layers without any value."
    layer, later = np.unravel_index(np.nanargmax(found.value), found.value.shape)
    layers, laters = found.axes["layer"], found.axes["later_layer"]
    return (
        f"Map of skipped layer by later layer; the largest effect is that of layer {layers[layer]} on layer "
        f"{laters[later]}, {np.nanmax(found.value):.3g}; the median is {np.nanmedian(found.value):.3g}."
    )


STEP_PICKS = (
    ("prompt_entropy", "wei"), ("prompt_entropy", "wei_no_massive"), ("curvature", "signed"),
    ("effective_rank", "wei_no_massive"), ("kl_to_final", ""), ("norm_median", ""),
)  # fmt: skip
"""What charts over training steps offer, in this order: a measurement, and the mode of one that has modes."""


def step_rows(result: Result, reads: Sequence[str]) -> dict[str, list[Row]]:
    """Rows by step and depth of what STEP_PICKS names, as many as fit into CELLS; else of the first that has both.

    Each row holds `choice`, its key here; `step` and `label` (state or layer); depth, value, interval and counts.
    """
    there = result.findings.measurements
    picked = [(name, mode) for name, mode in STEP_PICKS if name in there]
    if not picked:
        deep = (name for name, m in there.items() if "step" in m.axes and {"state", "layer"} & set(m.axes))
        picked = [(next(deep, ""), "")]
    found: dict[str, list[Row]] = {}
    for name, mode in picked:
        if name not in there:
            present(result, reads)
            continue
        whole = there[name]
        axis = "state" if "state" in whole.axes else "layer"
        further = [other for other in whole.axes if other not in ("step", axis)]
        if any(mode and mode not in whole.axes[other] for other in further):
            continue
        chosen = {other: mode or whole.axes[other][0] for other in further}
        thinned = thin(whole.select(**chosen), "step", axis)[0]
        choice = with_unit(", ".join([name.replace("_", " "), *map(str, chosen.values())]), whole.unit)
        drawn = [
            row | {"label": row[axis]} for row in rows(thinned, choice=choice) if row["value"] is not None
        ]
        if sum(map(len, found.values())) + len(drawn) <= CELLS:
            found[choice] = drawn
    return found


def finish(layers: list[Spec], title: str, description: str, note: str = "", **more: Any) -> Spec:
    """The whole specification: container width, transparent, neutral text, and a text alternative.

    Args:
        layers: what is drawn, first below.
        title: heading.
        note: second line of the heading.
        description: what the chart shows, for readers who do not see it.
        more: further top-level properties, such as `height` or `params`.

    Raises:
        BadInput: when one layer holds more than CELLS rows.
    """
    layers, datasets = _named(layers)
    cells = max(map(len, datasets.values()))
    if cells > CELLS:
        raise BadInput(
            f"the chart {title!r} would hold {cells} cells, at most {CELLS} are drawn; see its table."
        )
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {"text": title, "subtitle": note} if note else {"text": title},
        "description": description,
        "width": "container",
        "height": HEIGHT,
        "background": "transparent",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG,
        "datasets": datasets,
        "layer": layers,
        **more,
    }


def _named(layers: list[Spec]) -> tuple[list[Spec], dict[str, list[Row]]]:
    """Layers that name their rows, and the rows by name, so that layers with equal rows share them."""
    kept: list[list[Row]] = []
    named: list[Spec] = []
    for layer in layers:
        values = layer["data"]["values"]
        if values not in kept:
            kept.append(values)
        named.append(layer | {"data": {"name": f"rows_{kept.index(values)}"}})
    return named, {f"rows_{i}": values for i, values in enumerate(kept)}


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


def _plain(cell: float | int | str) -> float | int | str | None:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _end_labels(table: Sequence[Row], names: Sequence[str], axis: str, scale: Spec) -> list[Spec]:
    """Series names right of the last points, moved apart where they would overlap; none for one series."""
    last = {row["series"]: row for row in sorted(table, key=lambda r: r[axis]) if row["value"] is not None}
    if len(names) < 2 or not last:
        return []
    means = {name: np.mean([r["value"] or 0.0 for r in table if r["series"] == name]) for name in last}
    top_down = sorted(last.values(), key=lambda row: (row["value"], means[row["series"]]), reverse=True)
    places: list[float] = []
    for row in top_down:
        wanted = HEIGHT * (1 - _fraction(row["value"], scale))
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


def _fraction(value: float, scale: Spec) -> float:
    """Where a value stands between the ends of a scale, 0 at the bottom and 1 at the top."""
    low, high, value = (_unscaled(v, scale) for v in (*scale["domain"], value))
    return (value - low) / (high - low)


def _unscaled(value: float, scale: Spec) -> float:
    if scale["type"] == "log":
        return math.log(max(value, scale["domain"][0]))
    if scale["type"] == "symlog":
        return math.copysign(math.log1p(abs(value) / scale["constant"]), value)
    return value


CONFIG: Spec = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "tickColor": "currentColor",
        "domainColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.13,
        "domainOpacity": 0.35,
        "tickOpacity": 0.35,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {"labelColor": "currentColor", "titleColor": "currentColor", "titleFontWeight": "normal"},
    "title": {"color": "currentColor", "subtitleColor": "currentColor", "anchor": "start", "fontSize": 13},
    "text": {"color": "currentColor"},
    "rule": {"color": "currentColor"},
}
