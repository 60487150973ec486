"""What each attention head does, by seven scores of its pattern."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, finish, present, rows, thin
from depthscope.errors import BadInput
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("head_patterns",)
READS = ("entropy_norm", "distance", "previous", "first", "self", "local_8", "local_32")
TITLE = "Attention heads by score"
WORDS = {
    "entropy_norm": "normalised entropy",
    "distance": "mean distance (tokens)",
    "previous": "mass on the previous token",
    "first": "mass on the first token",
    "self": "mass on the token itself",
    "local_8": "mass on the last 8 tokens",
    "local_32": "mass on the last 32 tokens",
}


def plot(result: Result) -> Spec:
    """A map: layer down, head across; the score is chosen in a list. Layers without heads stay empty."""
    scores = present(result, READS)
    thinned = {name: thin(found, "layer") for name, found in scores.items()}
    values = _joined({name: found for name, (found, _) in thinned.items()})
    note = next(iter(thinned.values()))[1]
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "score"}
    shown = {"field": "shown", "type": "quantitative"}
    tooltip = [{"field": axis, "type": "ordinal"} for axis in ("layer", "head")]
    tooltip += [{"field": s, "type": "quantitative", "title": WORDS[s], "format": ".3~g"} for s in scores]
    drawn = next(iter(thinned.values()))[0]
    down, across = (np.asarray(drawn.axes[axis]).tolist() for axis in ("layer", "head"))
    encoding = {
        "x": {"field": "head", "type": "ordinal", "axis": axis, "scale": {"domain": across}},
        "y": {"field": "layer", "type": "ordinal", "axis": axis, "scale": {"domain": down}},
        "color": {**shown, "scale": {"scheme": "viridis"}, "legend": legend},
        "tooltip": tooltip,
    }
    chosen = [{"calculate": "datum[score]", "as": "shown"}, {"filter": "isValid(datum.shown)"}]
    layer = {"data": {"values": values}, "transform": chosen, "mark": {"type": "rect"}, "encoding": encoding}
    bind = {
        "input": "select",
        "options": list(scores),
        "labels": [WORDS[s] for s in scores],
        "name": "score: ",
    }
    param = {"name": "score", "value": next(iter(scores)), "bind": bind}
    height = max(220, min(520, 16 * len(down)))
    return finish([layer], TITLE, _told(scores), note, params=[param], height=height)


def _joined(scores: dict[str, Measurement]) -> list[Row]:
    """One row per head with a column per score."""
    tables = {name: rows(found) for name, found in scores.items()}
    sizes = {len(table) for table in tables.values()}
    if len(sizes) > 1:
        raise BadInput(f"the scores of head_patterns cover different heads: {sizes} cells; run it again.")
    places = next(iter(tables.values()))
    return [
        {"layer": place["layer"], "head": place["head"]} | {name: tables[name][i]["value"] for name in tables}
        for i, place in enumerate(places)
    ]


def _told(scores: dict[str, Measurement]) -> str:
    said: list[str] = []
    for name, found in scores.items():
        if np.isfinite(found.value).any():
            layer, head = np.unravel_index(np.nanargmax(found.value), found.value.shape)
            where = f"layer {found.axes['layer'][layer]} head {found.axes['head'][head]}"
            said.append(f"{WORDS[name]} is highest in {where} ({np.nanmax(found.value):.3g})")
    return "Map of layer by head. " + "; ".join(said) + "."
