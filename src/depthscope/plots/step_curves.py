"""The curve over depth at every checkpoint of a training, coloured by the logarithm of the step."""

from __future__ import annotations

import math
from typing import Any

from depthscope.charts import Spec, finish, step_rows
from depthscope.results.result import Result

SUITS = ("checkpoints",)
READS = ("prompt_entropy", "curvature", "effective_rank", "kl_to_final", "norm_median")
TITLE = "Curves over depth, step by step"


def plot(result: Result) -> Spec:
    """One line a checkpoint over relative depth, pale early and dark late; the measurement is chosen in a list."""
    found = {
        choice: [row | {"logarithm": math.log2(1 + row["step"])} for row in each]
        for choice, each in step_rows(result, READS).items()
    }
    choices, values = list(found), [row for each in found.values() for row in each]
    percent = {"format": ".0%", "grid": False}
    legend = {
        "orient": "top",
        "gradientLength": 180,
        "gradientThickness": 10,
        "title": "log2(1 + training step)",
    }
    amount: Spec = {"field": "value", "type": "quantitative"}
    shared = {
        "x": {"field": "depth", "type": "quantitative", "title": "relative depth", "axis": percent},
        "y": amount | {"title": None, "scale": {"zero": False}},
        "detail": {"field": "step", "type": "ordinal"},
        "color": {
            "field": "logarithm", "type": "quantitative", "legend": legend,
            "scale": {"scheme": "viridis", "reverse": True},
        },
    }  # fmt: skip
    tips = [
        {"field": "step", "type": "ordinal"}, {"field": "label", "type": "ordinal", "title": "state or layer"},
        amount | {"format": ".4~g"}, {"field": "low", "type": "quantitative", "format": ".4~g"},
        {"field": "high", "type": "quantitative", "format": ".4~g"},
    ]  # fmt: skip
    base = {"data": {"values": values}, "transform": [{"filter": "datum.choice == followed"}]}
    layers = [
        base | {"mark": {"type": "line", "strokeWidth": 2}, "encoding": shared},
        base
        | {"mark": {"type": "point", "filled": True, "size": 30}, "encoding": shared | {"tooltip": tips}},
    ]
    bind = {"input": "select", "options": choices, "name": "measurement: "}
    params = [{"name": "followed", "value": choices[0] if choices else "", "bind": bind}]
    return finish(layers, TITLE, _told(found), params=params)


def _told(found: dict[str, list[dict[str, Any]]]) -> str:
    rows = next((each for each in found.values() if each), [])
    if not rows:
        return f"Curves over depth, one a checkpoint: none of {len(found)} measurements has a value."
    steps = sorted({row["step"] for row in rows})
    first, last = ([row["value"] for row in rows if row["step"] == step] for step in (steps[0], steps[-1]))
    return (
        f"Curves over depth at {len(steps)} checkpoints; {next(iter(found))} lies between {min(first):.3g} and "
        f"{max(first):.3g} at step {steps[0]} and between {min(last):.3g} and {max(last):.3g} at step {steps[-1]}."
    )
