"""The verdict on entropy modes: at which states prompts fall into two kinds, and whether massive tokens make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

PROMPTS = 300
"""Below so many prompts it is not said that there are no two modes."""
LEAST = 0.05
"""A mode holds surely more than this share of the prompts."""
LISTED = 6


def two_kinds_of_prompts(results: Mapping[str, Result]) -> Verdict:
    """Whether prompt entropies have two modes: dip, BIC and Ashman's distance together, state by state.

    A state counts where the interval of the smaller mode's share lies above LEAST too: one odd document is no mode.
    """
    topic = "Whether prompts fall into two kinds"
    found = results["entropy_modes"]
    judged = found["bimodal"]
    count = 0 if judged.n_items is None else int(judged.n_items.max())
    if np.isnan(judged.value[:, 0, 0]).all():
        return Verdict(topic, f"Not decided: {judged.missing}.", False, "")
    states, plain, alone, length = (
        np.asarray(judged.axes["state"]),
        *(_where(judged, mode, variant) for mode, variant in _CELLS),
    )
    because = f"entropy_modes/bimodal of {count:,} prompts: {len(plain)} of {len(states)} states; {_strongest(found)}"
    if not plain:
        if count < PROMPTS:
            few = (
                f"Not decided: no state passes all three tests, and {count} prompts are fewer than {PROMPTS}."
            )
            return Verdict(topic, few, False, because)
        none = "No state's prompt entropies are called bimodal; modes less than five deviations apart can be missed."
        return Verdict(topic, none, True, because)
    sure = [s for s in plain if _shared(found["high_share"], s)]
    if not sure:
        few = f"Not decided: no interval of a mode's share keeps {LEAST:.0%} from 0 and 1."
        return Verdict(topic, few, False, because)
    plain = sure
    massive = (
        "at none of them without massive positions: the two kinds go with massive activations"
        if not set(plain) & set(alone)
        else f"without massive positions still at state {_listed(sorted(set(plain) & set(alone)))}"
    )
    rest = "" if set(plain) & set(length) else " Once length is taken out none is left."
    sentence = (
        f"Prompt entropies have two modes at state {_listed(plain)} of {states.max()}; {massive}.{rest}"
    )
    return Verdict(topic, sentence, True, because)


_CELLS = (("wei", "plain"), ("wei_no_massive", "plain"), ("wei", "length_removed"))


def _where(judged: Measurement, mode: str, variant: str) -> list[int]:
    cells = judged.select(mode=mode, variant=variant)
    return [int(s) for s in np.asarray(cells.axes["state"])[cells.value == 1]]


def _shared(found: Measurement, state: int) -> bool:
    cell = Cell.of(found, state=state)
    return cell.low > LEAST and cell.high < 1 - LEAST


def _strongest(found: Result) -> str:
    """The state whose dip has the smallest p, in numbers."""
    signs = {
        n: found[n].select(mode="wei", variant="plain")
        for n in ("dip_p", "bic_gain", "ashman_d", "minor_weight")
    }
    p = signs["dip_p"]
    at = int(np.nanargmin(p.value)) if np.isfinite(p.value).any() else 0
    said = {n: float(m.value[at]) for n, m in signs.items()}
    return (
        f"the dip is surest at state {p.axes['state'][at]}: p {said['dip_p']:.2g} (0.01), BIC gain "
        f"{said['bic_gain']:.3g} (10), distance {said['ashman_d']:.2g} (2), smaller weight "
        f"{said['minor_weight']:.2g} (0.1)."
    )


def _listed(states: Sequence[int]) -> str:
    return ", ".join(map(str, states[:LISTED])) + (" and more" if len(states) > LISTED else "")
