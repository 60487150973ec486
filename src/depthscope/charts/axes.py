"""Axes, scales, colours and what a pointer shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from depthscope.charts.specification import Row, Spec
from depthscope.errors import BadInput

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
    "position": "position (tokens)",
    "k": "heads ablated",
    "sinks": "first keys kept",
    "step": "step",
}


SHARES = ("share", "probability", "accuracy", "agreement")
"""Words that say that a number is a probability."""


def with_unit(words: str, unit: str) -> str:
    """An axis title: the words, then the unit unless it is 1 or the words say that it is a probability."""
    said = unit == "probability" and any(name in words for name in SHARES)
    return words if unit == "1" or said else f"{words} ({unit})"


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
        *(
            []
            if axis in ("level", "position", "k")
            else [{"field": "depth", "type": "quantitative", "format": ".0%"}]
        ),
        *more,
        {"field": "value", "title": title, **number},
        {"field": "low", "title": "interval from", **number},
        {"field": "high", "title": "to", **number},
        {"field": "n", "type": "quantitative", "format": "~d"},
        {"field": "n_items", "title": "items", "type": "quantitative", "format": "~d"},
    ]


def fraction(value: float, scale: Spec) -> float:
    """Where a value stands between the ends of a scale, 0 at the bottom and 1 at the top."""
    low, high, value = (_unscaled(v, scale) for v in (*scale["domain"], value))
    return (value - low) / (high - low)


def _unscaled(value: float, scale: Spec) -> float:
    if scale["type"] == "log":
        return math.log(max(value, scale["domain"][0]))
    if scale["type"] == "symlog":
        return math.copysign(math.log1p(abs(value) / scale["constant"]), value)
    return value
