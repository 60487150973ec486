"""Made-up results of fact_memory, as pages, plots and verdicts read them."""

from __future__ import annotations

import numpy as np
from grammar_results import LAYERS, made, result

from depthscope.results.result import Result

PLACES, KINDS = ("subject", "end"), ("right", "wrong", "invented")


def fact_memory(known: float = 0.6, none: float = 0.1, drop: float = 0.2, equal: float = 0.3) -> Result:
    share = np.array([known, 0.3, none]) * np.ones((2, 2, 1))
    by_layer = share[:, :1] * np.linspace(0, 1, LAYERS)[None, :, None]
    sure = np.linspace(0.2, 0.8, 3)[None, :, None] * np.array([1.0, 0.3]) * np.ones((2, 1, 1))
    by = {"token": PLACES}
    found = [
        made("hit_share", {**by, "option": ("answer", "said"), "bucket": KINDS}, share),
        made("hit_by_layer", {**by, "layer": np.arange(LAYERS), "bucket": KINDS}, by_layer),
        made(
            "hit_by_confidence",
            {**by, "confidence": ("low", "middle", "high"), "bucket": ("fact", "invented")},
            sure,
        ),
        made("fact_minus_invented_at_confidence", by, np.full(2, equal)),
        made("drop_beyond_random", by, np.full(2, drop)),
    ]
    return result("fact_memory", found)
