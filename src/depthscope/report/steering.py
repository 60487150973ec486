"""Verdicts on the split of states: what each part carries when it is exchanged, and whether the split is one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

PAIRS = 8
"""Fewer pairs of texts than this decide nothing."""
EXPLAINED = 0.2
"""R2 that the best design must reach: where less is expected, novel parts agree because states do."""
SAME = 0.8
"""Rank correlation from which on two designs find the same tokens novel."""


def what_parts_carry(results: Mapping[str, Result]) -> Verdict:
    """What the parts of a state carry: gains of a swap over a random step, and over its mirror image, by layer."""
    topic = "What the predictable part of a state carries"
    found = results["component_steering"]
    layers = [int(layer) for layer in found["swap_gain_over"].axes["layer"]]
    domain = {k: Cell.of(found["swap_gain_over"], layer=k, variant="random") for k in layers}
    token = {k: Cell.of(found["swap_same_own_over"], layer=k, variant="novel") for k in layers}
    best = max(layers, key=lambda k: domain[k].value)
    because = (
        f"component_steering/swap_gain_over (random) is {domain[best].said()} nats at layer {best}, where it is "
        f"largest; swap_same_own_over (novel) is {token[best].said()} there."
    )
    n = domain[best].n
    if n is None or n < PAIRS:
        return Verdict(topic, f"Not decided: {n} pairs of texts are fewer than {PAIRS}.", False, because)
    follows = [k for k in layers if domain[k].low > 0]
    stays = [k for k in layers if token[k].low > 0]
    both = [k for k in follows if k in stays]
    if both:
        sentence = (
            f"At {_named(both, layers)} the expectations of another text bring that text's words, more than a random "
            "step as long, while the output stays nearer to the own text than when the novel parts are exchanged."
        )
        return Verdict(topic, sentence, True, because)
    if all(domain[k].high < 0 or token[k].high < 0 for k in layers):
        return Verdict(
            topic,
            "The expectations of another text do not bring its words, or take the own ones away.",
            True,
            because,
        )
    return Verdict(topic, "Not decided: no layer shows both, and none is clear of it.", False, because)


def text_turns(results: Mapping[str, Result]) -> Verdict:
    """Whether written text turns: what the judge says of the swap, against the unsteered text of the same prompt."""
    topic = "Whether written text turns to the other domain"
    found = results["component_steering"]
    gain = Cell.of(found["written_towards_other_gain"], variant="swap_predictable")
    control = Cell.of(found["written_towards_other_gain"], variant="swap_random")
    right = found["judge_accuracy"].scalar()
    because = (
        f"component_steering/written_towards_other_gain is {gain.said()} for the swap and {control.said()} for a "
        f"random step as long; the judge is right about {right:.0%} of held-out pieces."
    )
    if gain.n is None or gain.n < PAIRS:
        return Verdict(topic, f"Not decided: {gain.n} texts are fewer than {PAIRS}.", False, because)
    if gain.low > 0 and gain.low > control.value:
        sentence = f"Under the expectations of another text, written text leans to its domain by {gain.value:.2f} of 1."
        return Verdict(topic, sentence, True, because)
    if gain.high < 0.05:
        return Verdict(
            topic, "Written text keeps its domain under the expectations of another text.", True, because
        )
    return Verdict(
        topic, "Not decided: the judge does not tell the steered text from the unsteered one.", False, because
    )


def split_stable(results: Mapping[str, Result]) -> Verdict:
    """Whether the split depends on the predictor: rank correlations of novelty with the base design."""
    topic = "Whether the split of a state depends on the predictor"
    found = results["predictor_sweep"]["novelty_with_base"]
    names, layers = (np.asarray(found.axes[axis]).tolist() for axis in ("variant", "layer"))
    cells = {(name, k): Cell.of(found, layer=k, variant=name) for name in names[1:] for k in layers}
    worst = min(cells, key=lambda at: cells[at].value)
    because = (
        f"predictor_sweep/novelty_with_base is lowest for {worst[0]!r} at layer {worst[1]}: {cells[worst].said()}; the "
        f"threshold is {SAME:g}."
    )
    n = cells[worst].n
    if n is None or n < PAIRS:
        return Verdict(topic, f"Not decided: {n} units are fewer than {PAIRS}.", False, because)
    best = float(np.nanmax(results["predictor_sweep"]["r2"].select(definition="dim").value))
    if min(cell.low for cell in cells.values()) >= SAME and not best >= EXPLAINED:
        why = f"no design explains more than {best:.0%}, so novel parts agree because states do"
        return Verdict(topic, f"Not decided: {why}.", False, because)
    if min(cell.low for cell in cells.values()) >= SAME:
        sentence = (
            f"All {len(names)} designs find the same tokens novel: the split hardly depends on the predictor."
        )
        return Verdict(topic, sentence, True, because)
    apart = sorted({name for (name, _), cell in cells.items() if cell.high < SAME}, key=names.index)
    if apart:
        named = "; ".join(apart[:3]) + (" and more" if len(apart) > 3 else "")
        sentence = f"The split depends on the predictor: other tokens are novel to {named}."
        return Verdict(topic, sentence, True, because)
    return Verdict(topic, "Not decided: the intervals hold the threshold.", False, because)


def _named(some: list[int], layers: list[int]) -> str:
    if len(some) == len(layers) > 1:
        return "every layer that was steered"
    word = "layers" if len(some) > 1 else "layer"
    return f"{word} {', '.join(map(str, some))}"
