"""How many tokens each layer's write erases, adds to, or strengthens."""

from __future__ import annotations

from typing import Any

import numpy as np

from depthscope.charts import COLOURS, Row, Spec, colours, finish, present, rows, tooltip, x_axis
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("residual_contribution",)
READS = ("mode_share",)
TITLE = "What the writes do to the stream, by token"
MODES = ("erase", "write", "strengthen")
SHADES = (COLOURS[1], "#BBBBBB", COLOURS[0])


def plot(result: Result) -> Spec:
    """Shares of tokens that the whole block's write erases, writes anew, and strengthens, stacked by layer."""
    found = present(result, READS)["mode_share"].select(sublayer="block")
    table: list[Row] = [row | {"series": row["mode"]} for row in rows(found)]
    colour: dict[str, Any] = colours(MODES, {"orient": "top", "title": None})
    colour["scale"] = {"domain": list(MODES), "range": list(SHADES)}
    y = {
        "field": "value", "type": "quantitative", "title": "share of tokens", "stack": "zero",
        "axis": {"format": "%"}, "scale": {"domain": [0, 1]},
    }  # fmt: skip
    layer: Spec = {
        "data": {"values": [row for row in table if row["value"] is not None] or table},
        "mark": {"type": "bar", "opacity": 0.85},
        "encoding": {
            "x": x_axis("layer", table), "y": y, "color": colour,
            "order": {"field": "place", "type": "ordinal"}, "tooltip": tooltip("layer", "share of tokens"),
        },
    }  # fmt: skip
    for row in table:
        row["place"] = MODES.index(row["mode"])
    note = "by the cosine of a token's write with its stream; orthogonal is new, not useless"
    return finish([layer], TITLE, _told(found), note)


def _told(found: Measurement) -> str:
    layers, said = np.asarray(found.axes["layer"]), []
    for mode in MODES:
        value = found.select(mode=mode).value
        most = "no value"
        if np.isfinite(value).any():
            most = f"at most {np.nanmax(value):.0%} at layer {layers[np.nanargmax(value)]}"
        said.append(f"{mode}: {most}")
    return f"Shares of tokens over {len(layers)} layers. {'; '.join(said)}."
