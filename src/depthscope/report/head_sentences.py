"""What two atlases of heads side by side decide, in words; each sentence can also say "not decided"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from depthscope.report.head_comparison import HeadsApart, ScoreApart

AGREE = 0.8
"""The correlation above which, with its whole interval, a score is said to agree head by head."""
SURE = 0.05
"""The largest p at which heads are said to be alike beyond chance."""


def sentences(found: HeadsApart) -> tuple[str, ...]:
    """Head by head where sizes are equal, then by depth, then by pairs."""
    return (*([_agreement(found.scores)] if found.aligned else ()), _depths(found.scores), _matching(found))


def _named(scores: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in scores) or "none"


def _agreement(scores: Sequence[ScoreApart]) -> str:
    known = [one for one in scores if np.isfinite([one.low, one.high]).all()]
    surely = [one.score for one in known if one.low > AGREE]
    below = [one.score for one in known if one.high < AGREE]
    if not known:
        return "Head by head: not decided, no score varies over enough heads of both."
    open_ = len(known) - len(surely) - len(below)
    return (
        f"Head by head, {len(surely)} of {len(known)} scores correlate above {AGREE:g} with their whole interval "
        f"({_named(surely)}) and {len(below)} below; not decided: {open_}."
    )


def _depths(scores: Sequence[ScoreApart]) -> str:
    near = [one.score for one in scores if one.depth_p <= SURE]
    if not near:
        return (
            "By depth: not decided, no score lies nearer in the two models than with the heads of one in random "
            f"order (p above {SURE:g})."
        )
    return (
        f"By depth, {len(near)} of {len(scores)} scores lie nearer in the two models than with the heads of one in "
        f"random order (p at most {SURE:g}, one by one): {_named(near)}."
    )


def _matching(found: HeadsApart) -> str:
    one = found.matched
    if one is None:
        return f"Paired by their scores: not decided, {found.unmatched}."
    numbers = (
        f"mean correlation of profiles {one.correlation:.2f} over {len(one.pairs)} pairs and {len(one.scores)} scores, "
        f"p = {one.p:.3g}, given the correlations of scores {one.p_given:.3g}"
    )
    if one.p > SURE:
        return f"Paired by their scores: not decided, random profiles pair as well ({numbers})."
    if one.p_given > SURE:
        return f"Paired by their scores: not decided, random heads with as correlated scores pair as well ({numbers})."
    depth = "" if np.isnan(one.depth) else f"; relative depths of the pairs correlate by {one.depth:.2f}"
    return (
        f"Paired by their scores, kinds of heads agree beyond the correlations of scores ({numbers}){depth}."
    )
