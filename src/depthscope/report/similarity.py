"""Verdicts on vectors of whole texts: where noise moves them least, and where their arrangement changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

Results = Mapping[str, Result]


def most_invariant(results: Results) -> Verdict:
    """Which state noise moves least: the smallest loss, set against the last state over the same texts."""
    topic = "Which state noise moves least"
    result = results["augmentation_invariance"]
    found, above = result["infonce_loss"].select(variant="views", mode="symmetric"), result["loss_above_last"]
    if not np.isfinite(found.value).any():
        return Verdict(topic, f"Not decided: {found.missing}.", False, "")
    states = [int(s) for s in found.axes["state"]]
    best = states[int(np.nanargmin(found.value))]
    loss, cell = Cell.of(found, state=best), Cell.of(above, state=best)
    top1 = Cell.of(result["partner_top1"].select(variant="views"), state=best).value
    because = (
        f"augmentation_invariance/loss_above_last of state {best} is {cell.said()} nats; the threshold is 0. "
        f"Its loss is {loss.said()}."
    )
    reads = "Random weights can do this too: compare with the untrained null."
    if best == states[-1]:
        others = [Cell.of(above, state=s) for s in states[:-1]]
        if all(other.low > 0 for other in others):
            sentence = f"The last state: views find their partner in {top1:.0%} of the texts. {reads}"
            return Verdict(topic, sentence, True, because)
        return Verdict(topic, "Not decided: earlier states are as good as the last.", False, because)
    if cell.high < 0:
        sentence = (
            f"State {best} of {states[-1]} better than the last one: views find their partner in {top1:.0%} of the "
            f"texts. {reads}"
        )
        return Verdict(topic, sentence, True, because)
    return Verdict(topic, "Not decided: the best state cannot be told from the last one.", False, because)


def largest_change(results: Results) -> Verdict:
    """Which layer changes the arrangement of texts most: 1 minus debiased CKA across it; intervals may not meet."""
    topic = "Which layer changes the arrangement of texts most"
    found = results["layer_similarity"]["change"]
    if not np.isfinite(found.value).any():
        return Verdict(topic, f"Not decided: {found.missing}.", False, "")
    named = {mode: _largest(found.select(mode=mode)) for mode in _without_sinks(found)}
    because = "; ".join(
        f"layer_similarity/change of layer {layer} is {cell.said()} with {mode} pooling"
        for mode, (layer, cell, _) in named.items()
    )
    because += "; all poolings must name one layer, and no interval of another may meet it."
    if len({layer for layer, _, _ in named.values()}) > 1:
        return Verdict(topic, "Not decided: it depends on which tokens are left out.", False, because)
    if any(met for _, _, met in named.values()):
        words = "Not decided: the layer of the largest change cannot be told from all others."
        return Verdict(topic, words, False, because)
    layer, cell, _ = next(iter(named.values()))
    depth = len(np.asarray(found.axes["layer"]))
    return Verdict(
        topic,
        f"Layer {layer} of {depth}: debiased CKA falls to {1 - cell.value:.2f} across it.",
        True,
        because,
    )


def _largest(found: Measurement) -> tuple[int, Cell, bool]:
    """The layer of the largest change, that change, and whether another layer's interval meets it."""
    cells = {int(layer): Cell.of(found, layer=layer) for layer in found.axes["layer"]}
    cells = {layer: cell for layer, cell in cells.items() if np.isfinite(cell.value)}
    most = max(cells, key=lambda layer: cells[layer].value)
    met = any(cell.overlaps(cells[most]) for layer, cell in cells.items() if layer != most)
    return most, cells[most], met


def _without_sinks(found: Measurement) -> list[str]:
    """Poolings that leave sinks out; all of them where none does."""
    modes = [str(mode) for mode in found.axes["mode"]]
    return [mode for mode in modes if "_no_" in mode] or modes


def late_or_early(results: Results) -> Verdict:
    """At which depth two models part: debiased CKA at equal depth, last third minus first third, against 0."""
    topic = "At which depth the two models part"
    found, mode = _one_mode(results["model_similarity"]["late_minus_early"])
    cell = Cell.of(found)
    if np.isnan(cell.value):
        return Verdict(topic, f"Not decided: {found.missing}.", False, "")
    because = f"model_similarity/late_minus_early is {cell.said()} with {mode} pooling; the threshold is 0."
    same = _one_mode(results["model_similarity"]["same_depth"])[0]
    lowest = int(np.nanargmin(same.value))
    least = f"least alike are the states {same.axes['state'][lowest]} (debiased CKA {same.value[lowest]:.2f})"
    if cell.high < 0:
        return Verdict(topic, f"Late: early states arrange texts more alike; {least}.", True, because)
    if cell.low > 0:
        return Verdict(topic, f"Early: late states arrange texts more alike; {least}.", True, because)
    return Verdict(topic, "Not decided: early and late states are as alike.", False, because)


def _one_mode(found: Measurement) -> tuple[Measurement, str]:
    modes = [str(mode) for mode in found.axes["mode"]]
    mode = next((one for one in modes if "no_massive" in one), modes[0])
    return found.select(mode=mode), mode
