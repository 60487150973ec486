"""Verdict on the second half of the layers: whether it serves only the token at hand, or later tokens too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

HALF = 0.5
"""A second half whose effect is below this share of the first half's has collapsed."""
DOCUMENTS = 8


def late_layers(results: Mapping[str, Result]) -> Verdict:
    """What the second half of the layers is for: its effect over the first half's, at all and at future tokens."""
    topic = "What the second half of the layers is for"
    ratio = results["layer_skip"]["half_ratio"]
    now, later = (Cell.of(ratio, variant=name) for name in ("shift", "future_shift"))
    if not np.isfinite([now.value, later.value]).all():
        return Verdict(topic, f"Not decided: {ratio.missing or 'a ratio is missing'}.", False, "")
    because = (
        f"layer_skip/half_ratio of future_shift is {later.said()}, of shift {now.said()}; "
        f"the threshold is {HALF:g}."
    )
    units = results["layer_skip"].provenance.get("units", "documents")
    if units != "documents" or later.n is None or later.n < DOCUMENTS:
        few = f"Not decided: at least {DOCUMENTS} independent documents are needed, found {later.n} {units}."
        return Verdict(topic, few, False, because)
    said = _said(now, later)
    if not said:
        return Verdict(topic, "Not decided: an interval holds the threshold.", False, because)
    return Verdict(topic, said, True, because)


def _said(now: Cell, later: Cell) -> str:
    """The sentence, or nothing where an interval holds the threshold."""
    shares = f"{later.value:.0%} of the first half's effect on future tokens and {now.value:.0%} of that on all tokens"
    if later.low > HALF and later.high < min(1.0, now.low):
        return f"The second half of the layers has {shares}: it reaches later tokens less, but does not collapse."
    if later.low > HALF:
        return f"The second half of the layers has {shares}: it still builds what later tokens read."
    if later.high < HALF < now.low:
        return f"The second half of the layers has {shares}: it serves the token at hand, hardly later ones."
    if later.high < HALF and now.high < HALF:
        return f"The second half of the layers has {shares}: it matters less for both."
    return ""
