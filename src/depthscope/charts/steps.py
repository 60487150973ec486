"""Rows over training steps."""

from __future__ import annotations

from collections.abc import Sequence

from depthscope.charts.axes import with_unit
from depthscope.charts.specification import CELLS, Row
from depthscope.charts.table import present, rows, thin
from depthscope.results.result import Result

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
