"""Verdicts on attention heads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

STRONG = 0.5
"""The mass on the right token from which on a head counts as a strong induction head."""
FEWEST = 5
"""Needles below which nothing is decided."""


def copies_context(results: Mapping[str, Result]) -> Verdict:
    """Whether the model repeats what it has seen: loss of the second copy against the first, and who looks there."""
    topic = "Whether the model repeats what it has seen"
    found = results["induction_heads"]
    first, second = (Cell.of(found[f"{which}_copy_loss"]) for which in ("first", "second"))
    strong = _strong(found["induction"])
    because = (
        f"induction_heads/first_copy_loss is {first.said()}, second_copy_loss {second.said()} nats; strong heads have "
        f"induction_heads/induction above {STRONG:g} with their whole interval."
    )
    if second.high >= first.low:
        return Verdict(
            topic, "Not decided: a random token is predicted no better the second time.", False, because
        )
    gain = first.value - second.value
    who = f"no head has more than {STRONG:g} of its mass on what followed the last time"
    if strong:
        several = "1 head looks" if len(strong) == 1 else f"{len(strong)} heads look"
        who = f"{several} at what followed the last time: {', '.join(strong[:5])}"
    more = " and more" if len(strong) > 5 else ""
    return Verdict(
        topic, f"Random tokens cost {gain:.1f} nats less the second time; {who}{more}.", True, because
    )


def _strong(found: Measurement) -> list[str]:
    """Names of the heads whose interval lies above STRONG, strongest first."""
    low = found.value if found.low is None else found.low
    order = np.argsort(-np.nan_to_num(found.value, nan=-1), axis=None)
    cells = [tuple(int(i) for i in np.unravel_index(k, found.value.shape)) for k in order]
    layers, heads = (np.asarray(found.axes[axis]) for axis in ("layer", "head"))
    return [f"L{layers[a]}H{heads[b]}" for a, b in cells if low[a, b] > STRONG]


def induction_needed(results: Mapping[str, Result]) -> Verdict:
    """Whether copying needs its induction heads: the rise of the second copy's loss against that of controls."""
    topic = "Whether copying needs its induction heads"
    found = results["induction_ablation"]
    rise, first = found["second_copy_loss_increase"], found["first_copy_loss_increase"]
    modes = [str(m) for m in np.asarray(rise.axes["mode"])]
    mode = "mean" if "mean" in modes else modes[0]
    sizes = [int(k) for k in np.asarray(rise.axes["k"])]
    known = [k for k in sizes if np.isfinite(rise.at(mode=mode, criterion="induction", k=k))]
    if not known:
        return Verdict(topic, "Not decided: no head has an induction score.", False, "")
    k = known[-1]
    own, previous, random = (
        Cell.of(rise, mode=mode, criterion=name, k=k) for name in ("induction", "previous", "random")
    )
    before = Cell.of(first, mode=mode, criterion="induction", k=k)
    because = (
        f"induction_ablation/second_copy_loss_increase ({mode}, {k} heads): induction {own.said()}, previous-token "
        f"{previous.said()}, random {random.said()}; first copy {before.said()} nats."
    )
    if own.low <= max(random.high, 0.0) or own.low <= before.high:
        return Verdict(
            topic,
            "Not decided: the rise cannot be told from that of random heads or of the first copy.",
            False,
            because,
        )
    more = " Previous-token heads cost more still." if previous.low > own.high else ""
    return Verdict(
        topic,
        f"Without its {k} strongest induction heads the model loses {own.value:.2f} nats on what it has seen before; "
        f"{k} random heads cost {random.value:.2f}.{more}",
        True,
        because,
    )


def retrieval_needed(results: Mapping[str, Result]) -> Verdict:
    """Whether answers need the retrieval heads: the margin over all three controls at the largest number of heads."""
    topic = "Whether answers need the retrieval heads"
    found = results["retrieval_ablation"]
    margin = found["margin"]
    mode = str(np.asarray(margin.axes["mode"])[0])
    known = [
        int(k) for k in np.asarray(margin.axes["k"]) if np.isfinite(margin.select(mode=mode, k=k).value).all()
    ]
    if not known:
        return Verdict(topic, "Not decided: too few heads to compare with.", False, "")
    k, controls = known[-1], [str(c) for c in np.asarray(margin.axes["criterion"])]
    cells = {c: Cell.of(margin, mode=mode, criterion=c, k=k) for c in controls}
    said = "; ".join(f"{c} {cell.said()}" for c, cell in cells.items())
    because = f"retrieval_ablation/margin ({mode}, {k} heads) over {said}. The threshold is 0."
    if min(cell.n or 0 for cell in cells.values()) < FEWEST:
        return Verdict(topic, f"Not decided: fewer than {FEWEST} needles or tests.", False, because)
    if all(cell.low > 0 for cell in cells.values()):
        least = min(cell.value for cell in cells.values())
        return Verdict(
            topic,
            f"Without its {k} retrieval heads the model recalls at least {100 * least:.0f} points fewer of an "
            "answer's words than without as many heads of any control.",
            True,
            because,
        )
    if all(cell.high < 0.05 for cell in cells.values()):
        return Verdict(
            topic,
            f"Ablating the {k} heads of the highest retrieval score costs no more than the controls.",
            True,
            because,
        )
    return Verdict(topic, "Not decided: the margin over some control may be zero.", False, because)
