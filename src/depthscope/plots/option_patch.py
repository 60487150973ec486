"""What a model answers when the last position's state of another prompt is put into it, by state."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("option_patch",)
READS = ("output_share",)
TITLE = "Answers after a patched last position"
NAMES = {"target": "target's options", "donor": "donor's options", "other": "other"}


def plot(result: Result) -> Spec:
    """Share of pairs whose output is a target option, a donor option or another token, by patched state."""
    found = present(result, READS)["output_share"]
    series = {
        NAMES.get(str(kind), str(kind)): found.select(option=kind)
        for kind in np.asarray(found.axes["option"])
    }
    return finish(
        lines(series, "state", "share of pairs"), TITLE, described(series, "state"), _changes(result)
    )


def _changes(result: Result) -> str:
    """Where the output and the lens change over, where enough donors answer."""
    known = {
        n: m.scalar()
        for n, m in result.findings.measurements.items()
        if n in ("transition", "lens_transition")
    }
    if len(known) < 2 or not all(map(np.isfinite, known.values())):
        return ""
    return (
        f"mean change-over: output at state {known['transition']:.1f}, lens at {known['lens_transition']:.1f}"
    )
