"""Verdicts on the roles of heads: which stand out, and where in depth they sit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

UNTRAINED = "untrained/"
"""Before the name of an analysis: its result on the same architecture with random weights, where the run has one."""
SURE = 0.05
"""The largest p, over all labels together, at which a label stands out."""
AWAY = 3.0
"""Standard deviations of random heads beyond which a label sits early or late."""
FEW = 5
"""Heads below which nothing is said of where a label sits."""


@dataclass(frozen=True)
class Role:
    """One label of an atlas: how many heads have it, of how many on which it is decided, and their relative depths."""

    label: str
    heads: int
    decided: int
    depth: float
    middle: float
    away: float

    @classmethod
    def every(cls, found: Result) -> tuple[Role, ...]:
        """The labels of an atlas that are decided for some head."""
        role = found["role"]
        names = [str(name) for name in np.asarray(role.axes["role"])]
        each = [cls._of(name, value) for name, value in zip(names, role.value, strict=True)]
        return tuple(one for one in each if one.decided)

    @classmethod
    def _of(cls, label: str, has: np.ndarray) -> Role:
        """`middle`: mean depth of all; `away`: its heads' mean minus that, over its spread for as many random heads."""
        depths = np.broadcast_to(np.linspace(0, 1, len(has))[:, None], has.shape)
        among, own = depths[np.isfinite(has)], depths[has == 1]
        n, many = len(own), len(among)
        if not n:
            return cls(label, n, many, np.nan, np.nan, np.nan)
        spread = among.std() * np.sqrt((many - n) / (n * max(1, many - 1)))
        away = (own.mean() - among.mean()) / spread if spread > 0 else 0.0
        return cls(label, n, many, float(own.mean()), float(among.mean()), float(away))

    @property
    def words(self) -> str:
        """The label as it is read."""
        return self.label.replace("_", " ")

    def said(self) -> str:
        """Label and number of heads."""
        return f"{self.words} ({self.heads} of {self.decided} heads)"

    def side(self, depth: Cell) -> int:
        """-1 early, 1 late, 0 neither: its interval and the spread of random heads must both say so."""
        away = 1 if self.away > AWAY else -1 if self.away < -AWAY else 0
        return away * ((away > 0 and depth.low > self.middle) or (away < 0 and depth.high < self.middle))


def roles_stand_out(results: Mapping[str, Result]) -> Verdict:
    """Which roles stand out: labels that more heads have than with untrained weights of the same architecture."""
    from scipy.stats import hypergeom

    topic = "Which roles of heads stand out"
    own = Role.every(results["head_atlas"])
    null = {one.label: one for one in Role.every(results[f"{UNTRAINED}head_atlas"])}
    both = [(one, null[one.label]) for one in own if one.label in null]
    p = [
        float(hypergeom.sf(a.heads - 1, a.decided + b.decided, a.heads + b.heads, a.decided)) for a, b in both
    ]
    there = [a.said() for (a, _), chance in zip(both, p, strict=True) if chance * len(both) <= SURE]
    told = ", ".join(f"{a.words} {a.heads} against {b.heads}" for a, b in both if a.heads or b.heads)
    because = (
        f"head_atlas/role against untrained weights, heads with each label: {told or 'none'}; Fisher's exact test, "
        f"p at most {SURE:g} over {len(both)} labels together."
    )
    if not there:
        return Verdict(
            topic, "Not decided: no label is commoner than with untrained weights.", False, because
        )
    rest = [a.words for (a, _), chance in zip(both, p, strict=True) if a.heads and chance * len(both) > SURE]
    more = f"; not told apart: {', '.join(rest)}" if rest else ""
    return Verdict(
        topic, f"More heads than with untrained weights are: {', '.join(there)}{more}.", True, because
    )


def roles_in_depth(results: Mapping[str, Result]) -> Verdict:
    """Where in depth roles sit: the mean relative depth of a label's heads against as many random heads."""
    topic = "Where in depth the roles of heads sit"
    found = results["head_atlas"]
    own = [one for one in Role.every(found) if one.heads >= FEW]
    side = {one.label: one.side(Cell.of(found["role_depth"], role=one.label)) for one in own}
    said = "; ".join(f"{one.words} {one.depth:.0%} ({one.away:+.1f})" for one in own)
    because = (
        f"head_atlas/role_depth, in brackets its distance from that of as many random heads in their standard "
        f"deviations: {said or f'no label has {FEW} heads'}. The threshold is {AWAY:g}, and the interval over heads "
        "must not hold the mean depth of all."
    )
    early, late = (
        [f"{one.words} ({one.depth:.0%})" for one in own if side[one.label] == which] for which in (-1, 1)
    )
    if not early and not late:
        why = "no label has enough heads" if not own else "labels may lie anywhere in the depth"
        return Verdict(topic, f"Not decided: {why}.", False, because)
    parts = [f"nearer the input than random heads: {', '.join(early)}"] if early else []
    parts += [f"nearer the output{'' if early else ' than random heads'}: {', '.join(late)}"] if late else []
    rest = len(own) - len(early) - len(late)
    parts += [f"{rest} more may sit anywhere"] if rest else []
    sentence = "; ".join(parts)
    return Verdict(topic, f"{sentence[0].upper()}{sentence[1:]}.", True, because)
