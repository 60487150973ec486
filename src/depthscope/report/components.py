"""Verdicts on the parts of a state: whether the predictable one says more of the domain, the novel one of the token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]


def domain_expected(results: Results) -> Verdict:
    """Domain: whether the predictable part says more of the domain than the novel part."""
    return _ordering(
        results, "domain", 1, "Whether the predictable part of a state holds the domain",
        ("The predictable part says more of the domain than the novel part", "The novel part says more of the domain"),
    )  # fmt: skip


def token_novel(results: Results) -> Verdict:
    """Token: whether the novel part says more of the kind of token than the predictable part."""
    return _ordering(
        results, "token_type", -1, "Whether the novel part of a state holds the kind of token",
        ("The novel part says more of the kind of token", "The predictable part says more of the kind of token"),
    )  # fmt: skip


def _ordering(results: Results, task: str, sign: int, topic: str, words: tuple[str, str]) -> Verdict:
    """Confirmed, refuted or not decided by the mean difference over layers; layers on the other side are named."""
    result = results["component_probes"]
    labels = {"task": task, "score": "macro_f1", "variant": "causal"}
    whole = Cell.of(result["ordering"], **labels)
    found = result["difference"].select(**labels)
    cells = {int(k): Cell.of(found, layer=k) for k in np.asarray(found.axes["layer"])}
    sides = {k: _side(cell, sign) for k, cell in cells.items()}
    side = _side(whole, sign)
    size = f"{abs(whole.value):.3f} of macro F1 on average"
    sentence = {
        "yes": f"{words[0]}, by {size}{_but(sides, 'yes', 'no')}.",
        "no": f"{words[1]}, by {size}{_but(sides, 'no', 'yes')}: the opposite of what was expected.",
        "open": "Not decided: the interval of the mean difference over layers holds 0.",
    }[side]
    each = "; ".join(f"layer {k}: {cell.said('+.3f')}" for k, cell in cells.items())
    grounds = f"component_probes/ordering of {task} is {whole.said('+.3f')}; {each}. The threshold is 0."
    return Verdict(topic, sentence, side != "open", grounds)


def _side(cell: Cell, sign: int) -> str:
    low, high = sorted((sign * cell.low, sign * cell.high))
    return "yes" if low > 0 else "no" if high < 0 else "open"


def _but(sides: Mapping[int, str], own: str, other: str) -> str:
    """What single layers say where not all are on the same side."""
    against = [str(k) for k, side in sides.items() if side == other]
    still = [str(k) for k, side in sides.items() if side == "open"]
    if all(side == own for side in sides.values()):
        return f", at each of {len(sides)} layers"
    parts = [f"the reverse at layer {', '.join(against)}"] if against else []
    parts += [f"open at layer {', '.join(still)}"] if still else []
    return f" ({'; '.join(parts)})"


def novelty_surprises(results: Results) -> Verdict:
    """Novelty: whether the novel part is longer where the token was not expected, beyond norm and frequency."""
    topic = "Whether the novel part of a state follows surprisal"
    found = results["predictability"]["correlation"].select(mode="given_both")
    cells = {int(k): Cell.of(found, layer=k) for k in np.asarray(found.axes["layer"])}
    each = "; ".join(f"layer {k}: {cell.said('+.3f')}" for k, cell in cells.items())
    grounds = f"predictability/correlation, norm and frequency taken out: {each}. The threshold is 0."
    groups = {
        name: [str(k) for k, cell in cells.items() if _side(cell, 1) == side]
        for side, name in (("yes", "longer"), ("no", "shorter"), ("open", "open"))
    }
    if not groups["longer"] and not groups["shorter"]:
        return Verdict(topic, "Not decided: every interval of the correlation holds 0.", False, grounds)
    said = [
        f"it is {name} where the token surprises at layer {', '.join(groups[name])}"
        for name in ("longer", "shorter") if groups[name]
    ] + ([f"open at layer {', '.join(groups['open'])}"] if groups["open"] else [])  # fmt: skip
    told = "; ".join(said)
    return Verdict(topic, f"{told[0].upper()}{told[1:]}.", True, grounds)
