"""The verdict on linear maps: whether best sources keep relative or absolute depth."""

from __future__ import annotations

from collections.abc import Mapping

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]


def depth_kept(results: Results) -> Verdict:
    """Whether layers correspond by relative depth: distances of best sources from either, compared."""
    topic = "Whether layers correspond by relative depth"
    found = results["linear_maps"]
    if "error_by_offset" in found.findings.measurements:
        said = "Not decided: both models are equally deep, so relative and absolute depth say the same."
        return Verdict(topic, said, False, "linear_maps/hypothesis_difference is 0 by construction.")
    cell, sharp = (Cell.of(found[name]) for name in ("hypothesis_difference", "sharpness"))
    because = (
        f"linear_maps/hypothesis_difference is {cell.said()} of the depth, the threshold is 0; sharpness is "
        f"{sharp.said()} and has to be above 0 as well."
    )
    if not sharp.low > 0:
        flat = "Not decided: sources beside the diagonal predict as well as those on it."
        return Verdict(topic, flat, False, because)
    if not (cell.low > 0 or cell.high < 0):
        return Verdict(
            topic, "Not decided: the best sources are as near to either hypothesis.", False, because
        )
    kind, distance = ("relative", "relative_distance") if cell.low > 0 else ("absolute", "absolute_distance")
    away = found[distance].scalar()
    sentence = (
        f"Best linear sources keep {kind} depth, on average {away:.0%} of the depth away from it. States change "
        "slowly, so some diagonal is there in any case: compare with the control of a stretched copy."
    )
    return Verdict(topic, sentence, True, because)
