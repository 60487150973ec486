"""Whether the novel part is longer where the token was not expected."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, dashed, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("predictability",)
READS = ("correlation",)
TITLE = "Novelty and surprisal"
WORDS = {
    "plain": "as they are",
    "given_norm": "without the norm",
    "given_frequency": "without the frequency",
    "given_both": "without both",
}


def plot(result: Result) -> Spec:
    """Spearman's correlation by layer, with nothing, norm, frequency or both taken out."""
    found = present(result, READS)["correlation"]
    series = {
        WORDS.get(str(mode), str(mode)): found.select(mode=mode) for mode in np.asarray(found.axes["mode"])
    }
    layers = [*dashed(0.0, "no relation"), *lines(series, "layer", "Spearman's correlation")]
    return finish(layers, TITLE, described(series, "layer"))
