"""What a retraining after the removal would take, from the speed that was measured."""

from __future__ import annotations

from depthscope.advise.cost import Cost
from depthscope.results.decision import Estimate, Said

BACKWARD = 3.0
"""Work of training on a token over that of reading it: one pass forward, and about two for the gradients."""


def healing(cost: Cost, tokens: float, repeats: int) -> Said:
    """Hours to train on so many tokens at the largest batch that was timed; not evaluated for 0 tokens."""
    if not tokens:
        return Said.of("healing.not_evaluated")
    speed = max(cost.speed, key=lambda one: one.batch)
    slow, quick = speed.prefill_range
    work = BACKWARD * tokens
    hours = Estimate(work / speed.prefill, work / quick, work / slow, repeats)
    return Said.of("healing.estimate", tokens=tokens, hours=hours)
