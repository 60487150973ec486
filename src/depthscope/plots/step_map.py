"""How each depth comes by its values over a training: a map of depth by step."""

from __future__ import annotations

from typing import Any

from depthscope.charts import Spec, finish, step_rows
from depthscope.results.result import Result

SUITS = ("checkpoints",)
READS = ("prompt_entropy", "curvature", "effective_rank", "kl_to_final", "norm_median")
TITLE = "Depth by training step"


def plot(result: Result) -> Spec:
    """A map: training steps across, as they were saved; depth upwards; the measurement is chosen in a list."""
    found = step_rows(result, READS)
    choices = list(found)
    axis = {"labelAngle": 0, "labelOverlap": True, "ticks": False, "domain": False}
    amount: Spec = {"field": "value", "type": "quantitative"}
    legend = {"orient": "top", "gradientLength": 180, "gradientThickness": 10, "title": None}
    number = {"type": "quantitative", "format": ".4~g"}
    encoding = {
        "x": {"field": "step", "type": "ordinal", "title": "training step", "axis": axis},
        "y": {"field": "label", "type": "ordinal", "sort": "descending", "title": "state or layer", "axis": axis},
        "color": amount | {"scale": {"scheme": "viridis"}, "legend": legend},
        "tooltip": [
            {"field": "choice", "type": "nominal", "title": "measurement"}, {"field": "step", "type": "ordinal"},
            {"field": "label", "type": "ordinal", "title": "state or layer"}, amount | {"format": ".4~g"},
            {"field": "low", "title": "interval from", **number}, {"field": "high", "title": "to", **number},
        ],
    }  # fmt: skip
    values = [row for each in found.values() for row in each]
    shown = [{"filter": "datum.choice == measured"}]
    layer = {"data": {"values": values}, "transform": shown, "mark": {"type": "rect"}, "encoding": encoding}
    bind = {"input": "select", "options": choices, "name": "measurement: "}
    params = [{"name": "measured", "value": choices[0] if choices else "", "bind": bind}]
    return finish([layer], TITLE, _told(found), height=300, params=params)


def _told(found: dict[str, list[dict[str, Any]]]) -> str:
    every = [row for rows in found.values() for row in rows]
    if not every:
        return f"Map of depth by training step: 0 cells of {len(found)} measurements have a value."
    choice, rows = next((name, rows) for name, rows in found.items() if rows)
    low, high = (pick(rows, key=lambda row: row["value"]) for pick in (min, max))
    return (
        f"Maps of depth by training step for {len(found)} measurements; {choice} is lowest, {low['value']:.3g}, at "
        f"step {low['step']} and depth {low['label']}, and highest, {high['value']:.3g}, at step {high['step']} and "
        f"depth {high['label']}."
    )
