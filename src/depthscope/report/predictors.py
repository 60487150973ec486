"""The verdict on predictors: whether the past tells more of a state than the last state tells linearly."""

from __future__ import annotations

from collections.abc import Mapping

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]
LEAST = 0.02
"""Share of the variance below which a gain is not worth a sentence."""


def more_than_linear(results: Results) -> Verdict:
    """What a context adds to the last state: the gain of predictors over a ridge regression, layer by layer."""
    topic = "What a context adds to the last state"
    gain, share = results["predictor"]["gain"], results["predictor"]["guess_r2"]
    layers = [int(layer) for layer in gain.axes["layer"]]
    cells = {layer: Cell.of(gain, layer=layer, variant="ridge") for layer in layers}
    said = "; ".join(f"layer {layer} {cell.said()}" for layer, cell in cells.items())
    because = f"predictor/gain over ridge: {said}. The threshold is {LEAST}."
    more = [layer for layer, cell in cells.items() if cell.low > LEAST]
    less = [layer for layer, cell in cells.items() if cell.high < LEAST]
    if len(more) + len(less) < len(layers) and not more:
        return Verdict(
            topic, "Not decided: gains over one linear step are near the threshold.", False, because
        )
    best = max(layers, key=lambda layer: share.at(layer=layer, variant="predictor"))
    known = share.at(layer=best, variant="predictor")
    first = f"Up to {known:.0%} of a state's variance (layer {best}) can be known before its token is read"
    if not more:
        sentence = f"{first}; a linear map of the last state finds all but {LEAST:.0%} of the variance of it."
        return Verdict(topic, f"{sentence} A longer training may find more.", True, because)
    named = ", ".join(map(str, more))
    sentence = f"{first}. A linear map of the last state misses more than {LEAST:.0%} at layers {named}."
    return Verdict(topic, sentence, True, because)
