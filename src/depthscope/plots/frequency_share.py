"""Which frequency class the predictions of each state come from."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Row, Spec, colours, finish, present, rows, thin, tooltip, x_axis
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("frequency_onset",)
READS = ("share",)
TITLE = "Frequency class of the top-1 token by state"


def plot(result: Result) -> Spec:
    """One bar a state, split by bucket, the most frequent tokens below."""
    found, note = thin(present(result, READS)["share"], "state")
    names = [str(name) for name in found.axes["bucket"]]
    table = _stacked(found, names)
    step = np.diff(np.asarray(found.axes["state"])).min(initial=1) if len(found.axes["state"]) > 1 else 1
    bars = [row | {"from": row["state"] - 0.42 * step, "to": row["state"] + 0.42 * step} for row in table]
    height = {
        "field": "base", "type": "quantitative", "title": "share of positions",
        "scale": {"domain": [0, 1]}, "axis": {"format": "%", "tickCount": 5},
    }  # fmt: skip
    encoding = {
        "x": x_axis("state", table, "from"),
        "x2": {"field": "to"},
        "y": height,
        "y2": {"field": "top"},
        "color": colours(names, {"orient": "top", "title": "rank of the token in the text"}),
        "tooltip": tooltip("state", "share"),
    }
    layer = {"data": {"values": bars}, "mark": {"type": "bar", "opacity": 0.85}, "encoding": encoding}
    return finish([layer], TITLE, _told(found, names), note)


def _stacked(found: Measurement, names: list[str]) -> list[Row]:
    """Rows with the lower and upper end of each piece of a bar; missing ones are left out."""
    below: dict[int, float] = {}
    table: list[Row] = []
    order = {name: k for k, name in enumerate(names)}
    for row in sorted(rows(found), key=lambda r: (r["state"], order[str(r["bucket"])])):
        if row["value"] is not None:
            base = below.get(row["state"], 0.0)
            below[row["state"]] = base + row["value"]
            table.append(row | {"series": str(row["bucket"]), "base": base, "top": base + row["value"]})
    return table


def _told(found: Measurement, names: list[str]) -> str:
    if not np.isfinite(found.value).any():
        return f"Bars of {len(names)} frequency classes without any value."
    states = np.asarray(found.axes["state"])
    said = [
        f"{name}: {found.value[0, k]:.0%} at state {states[0]}, at most {found.value[:, k].max():.0%} at state "
        f"{states[found.value[:, k].argmax()]}, {found.value[-1, k]:.0%} at state {states[-1]}"
        for k, name in enumerate(names)
    ]
    return f"Share of each frequency class of the top-1 token. {'; '.join(said)}."
