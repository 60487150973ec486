"""What each token of one prompt carries at each depth: erasure effects, or attributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.charts import CELLS, Spec, finish, present, with_unit
from depthscope.results.measurement import Table
from depthscope.results.result import Result
from depthscope.results.visible import SPACE, visible

SUITS = ("residual_erasure", "integrated_gradients")
READS = ("effect", "attribution")
TITLE = "What each token of a prompt carries, by depth"


def plot(result: Result) -> Spec:
    """A map of one prompt: tokens across, depth upwards; the prompt is chosen in a list."""
    (name,) = present(result, READS)
    table = result.findings.examples.get("maps")
    values, kind = ([], KINDS[name]) if table is None else (_cells(table, KINDS[name]), KINDS[name])
    asked = list(dict.fromkeys(row["asked"] for row in values)) or ["no prompt"]
    axis = {"labelAngle": -55, "labelLimit": 130, "ticks": False, "domain": False}
    depth = {"field": kind.depth, "type": "ordinal", "sort": "descending", "title": kind.depth}
    amount = {"field": "value", "type": "quantitative", "title": kind.title}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10}
    place = {
        "field": "place",
        "type": "nominal",
        "sort": {"field": "position"},
        "title": "token",
        "axis": axis,
    }
    encoding = {
        "x": place,
        "y": depth | {"axis": {"labelOverlap": True, "ticks": False, "domain": False}},
        "color": amount | {"scale": _scale(values, kind), "legend": legend},
        "opacity": {"condition": {"test": "datum.incomplete", "value": 0.3}, "value": 1},
        "tooltip": [
            {"field": "place", "type": "nominal", "title": "token"},
            {"field": kind.depth, "type": "ordinal"},
            {"field": "part", "type": "nominal"},
            amount | {"format": ".3~g"},
        ],
    }
    shown = [{"filter": "datum.asked == asked"}]
    layer = {"data": {"values": values}, "transform": shown, "mark": {"type": "rect"}, "encoding": encoding}
    bind = {"input": "select", "options": asked, "name": "prompt: "}
    params = [{"name": "asked", "value": asked[0], "bind": bind}]
    return finish([layer], TITLE, _told(values, kind, asked), kind.note, height=340, params=params)


@dataclass(frozen=True)
class Kind:
    """One kind of map: its axis, its column, how it is called, what is drawn of it, and whether zero is the middle."""

    depth: str
    column: str
    title: str
    note: str
    signed: bool


KINDS = {
    "effect": Kind(
        "state", "effect", with_unit("effect of erasing", "probability"), "with sinks and answer tokens", False
    ),
    "attribution": Kind(
        "layer", "attribution", with_unit("attribution", "probability"),
        "outputs of blocks; colours fit all positions but the first; pale: the path is incomplete", True,
    ),
}  # fmt: skip


def _cells(table: Table, kind: Kind) -> list[dict[str, Any]]:
    """Rows of as many prompts as fit, a long one with every k-th depth; of block outputs, where there are any."""
    c = {name: np.asarray(values) for name, values in table.columns.items()}
    chosen = np.isfinite(c[kind.column])
    if "sublayer" in c and len(c["sublayer"]):
        first = "block" if (c["sublayer"] == "block").any() else str(c["sublayer"][0])
        chosen &= c["sublayer"] == first
    found: list[dict[str, Any]] = []
    for window in np.unique(c["window"]):
        rows = np.flatnonzero(chosen & (c["window"] == window))
        if found and len(found) + len(rows) > CELLS:
            break
        rows = rows[c[kind.depth][rows] % max(1, -(-len(rows) // CELLS)) == 0]
        found += [_row(c, int(i), kind) for i in rows]
    return found


def _row(c: dict[str, np.ndarray], i: int, kind: Kind) -> dict[str, Any]:
    position = int(c["position"][i])
    return {
        "asked": visible(str(c["asked"][i])).replace(SPACE, " "), "position": position,
        "place": f"{position}: {visible(str(c['token'][i]))}", "part": str(c["part"][i]),
        kind.depth: int(c[kind.depth][i]), "value": float(c[kind.column][i]),
        "incomplete": bool(c["incomplete"][i]) if "incomplete" in c else False,
    }  # fmt: skip


def _scale(values: list[dict[str, Any]], kind: Kind) -> Spec:
    """Viridis from 0; or red and blue around 0, as far as the largest size behind the first position."""
    if not kind.signed:
        return {"scheme": "viridis", "domainMin": 0}
    far = max((abs(row["value"]) for row in values if row["position"]), default=0.0) or 1.0
    return {"scheme": "redblue", "domain": [-far, far], "domainMid": 0, "clamp": True}


def _told(values: list[dict[str, Any]], kind: Kind, asked: list[str]) -> str:
    if not values:
        return f"Map of tokens by {kind.depth}: 0 prompts are there to be drawn."
    top = max(values, key=lambda row: abs(row["value"]))
    return (
        f"Maps of {len(asked)} prompts, tokens by {kind.depth}; the largest {kind.column} is {top['value']:.3g} "
        f"at token {top['place']}, {kind.depth} {top[kind.depth]}, of {top['asked']!r}."
    )
