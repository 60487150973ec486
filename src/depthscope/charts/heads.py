"""A map of heads: layer down, head across, the score chosen in a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from depthscope.charts.specification import Row, Spec, finish
from depthscope.charts.table import rows, thin
from depthscope.errors import BadInput
from depthscope.results.measurement import Measurement

_AXIS = {"labelOverlap": True, "labelAngle": 0, "ticks": False, "domain": False}


def head_map(scores: Mapping[str, Measurement], words: Mapping[str, str], title: str) -> Spec:
    """Scores over layer and head, one shown at a time; layers without heads stay empty.

    Args:
        scores: name -> measurement, all over the same layers and heads. words: what each is called in the list.

    Raises:
        BadInput: when scores cover different heads.
    """
    thinned = {name: thin(found, "layer") for name, found in scores.items()}
    first, note = next(iter(thinned.values()))
    values = _joined({name: found for name, (found, _) in thinned.items()})
    down, across = (np.asarray(first.axes[axis]).tolist() for axis in ("layer", "head"))
    chosen = [{"calculate": "datum[score]", "as": "shown"}, {"filter": "isValid(datum.shown)"}]
    layer = {
        "data": {"values": values},
        "transform": chosen,
        "mark": {"type": "rect"},
        "encoding": _encoding(scores, words, down, across),
    }
    named = [words[s] for s in scores]
    bind = {"input": "select", "options": list(scores), "labels": named, "name": "score: "}
    param = {"name": "score", "value": next(iter(scores)), "bind": bind}
    height = max(220, min(520, 16 * len(down)))
    return finish([layer], title, _told(scores, words), note, params=[param], height=height)


def _encoding(
    scores: Mapping[str, Measurement], words: Mapping[str, str], down: list[Any], across: list[Any]
) -> Spec:
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": "score"}
    shown = {"field": "shown", "type": "quantitative"}
    tooltip = [{"field": axis, "type": "ordinal"} for axis in ("layer", "head")]
    tooltip += [{"field": s, "type": "quantitative", "title": words[s], "format": ".3~g"} for s in scores]
    return {
        "x": {"field": "head", "type": "ordinal", "axis": _AXIS, "scale": {"domain": across}},
        "y": {"field": "layer", "type": "ordinal", "axis": _AXIS, "scale": {"domain": down}},
        "color": {**shown, "scale": {"scheme": "viridis"}, "legend": legend},
        "tooltip": tooltip,
    }


def _joined(scores: Mapping[str, Measurement]) -> list[Row]:
    """One row per head with a column per score."""
    tables = {name: rows(found) for name, found in scores.items()}
    sizes = {len(table) for table in tables.values()}
    if len(sizes) > 1:
        raise BadInput(f"the scores cover different heads: {sizes} cells; run the analysis again.")
    places = next(iter(tables.values()))
    return [
        {"layer": place["layer"], "head": place["head"]} | {name: tables[name][i]["value"] for name in tables}
        for i, place in enumerate(places)
    ]


def _told(scores: Mapping[str, Measurement], words: Mapping[str, str]) -> str:
    said: list[str] = []
    for name, found in scores.items():
        if np.isfinite(found.value).any():
            layer, head = np.unravel_index(np.nanargmax(found.value), found.value.shape)
            where = f"layer {found.axes['layer'][layer]} head {found.axes['head'][head]}"
            said.append(f"{words[name]} is highest in {where} ({np.nanmax(found.value):.3g})")
    return f"Map of layer by head, {len(scores)} scores. " + "; ".join(said) + "."
