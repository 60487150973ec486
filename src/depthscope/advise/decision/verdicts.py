"""From counts and costs to verdicts: of a task, of the variant to take for it, and of what no other variant beats.

A variant is chosen on one half of the items and judged on the other, so that the figure that is printed is not the
best
of several draws. A verdict is accept or reject only where an interval lies on one side of the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from depthscope.advise.paired import items_needed
from depthscope.results.decision import Estimate, Route, TaskFound, TaskLine, Variant, Verdict

Z = 1.959964
"""Half width of a 95 % normal interval in standard errors."""
DIFFERING = 0.05
"""Share of items whose judgement differs between two close models, where nothing is known yet."""


@dataclass(frozen=True)
class Judged:
    """A verdict, the key of what decided it, and about how many items more would decide it (None where decided)."""

    verdict: Verdict
    reason: str
    more: int | None = None


def share(right: int, n: int) -> Estimate:
    """A share of n items with Wilson's interval: the p for which |share - p| <= z √(p (1 - p) / n); empty for n = 0.

    Source: Wilson 1927, JASA 22.
    """
    if n == 0:
        return Estimate(n=0)
    p, z = right / n, Z
    middle, below = (p + z * z / (2 * n)) / (1 + z * z / n), 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / below
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half), n)


def needed(allowed_drop: float, differing: float = DIFFERING) -> int:
    """Items that tell the allowed drop δ from no loss: 3.84 q / δ², q the share of items that differ."""
    return math.ceil(items_needed(differing, allowed_drop))


def can_lose(base: Estimate, judged: Estimate, chance: float, allowed_drop: float) -> bool:
    """Whether a loss beyond the limit could show at all.

    Args:
        base: of the base on all items, surely above guessing by more than the limit. judged: of the base on the items
            of the verdict: where it has no more right than may be lost there, losing all of it would still pass.
    """
    limit = chance + allowed_drop
    return base.low is not None and base.low > limit and (judged.value or 0.0) > limit


def judged(
    drop: Verdict,
    more: int | None,
    score: Estimate,
    threshold: float | None,
    failed: Sequence[str],
    telling: bool = True,
) -> Judged:
    """The verdict on a task, by must-pass items, the allowed drop and the least acceptable score together.

    Args:
        drop: accept, reject or undecided by the interval of the change. more: items that it asks for. score: of the
            variant. threshold: None where there is no least score. failed: must-pass items that are newly wrong.
        telling: whether the base can lose more than the limit (`can_lose`): a test that nobody passes shows no loss.
    """
    if failed:
        return Judged("reject", "must_pass")
    if drop == "reject":
        return Judged("reject", "drop")
    if threshold is not None and score.high is not None and score.high < threshold:
        return Judged("reject", "threshold")
    if not telling:
        return Judged("undecided", "floor")
    if drop == "undecided":
        return Judged("undecided", "drop", more)
    if threshold is not None and (score.low is None or score.low < threshold):
        return Judged("undecided", "threshold", _for_threshold(score, threshold))
    return Judged("accept", "")


def _for_threshold(score: Estimate, threshold: float) -> int | None:
    """Items more until the interval of a score clears the threshold, if the score stays what it is."""
    if score.value is None or score.n is None or math.isclose(score.value, threshold):
        return None
    spread = max(score.value * (1 - score.value), 0.25 / max(score.n, 1))
    return max(1, math.ceil(Z * Z * spread / (score.value - threshold) ** 2) - score.n)


def machine_cost(seconds: Estimate, per_hour: float | None) -> Estimate:
    """Money for 1,000 requests from the machine seconds of one; seconds for 1,000 where no price is known."""
    return seconds.scaled(1000 * (per_hour / 3600 if per_hour is not None else 1.0))


def mixed(costs: Mapping[str, Estimate], volumes: Mapping[str, float]) -> Estimate:
    """The mean cost of the mix of tasks, weighed by their volumes (equal weights where all are 0)."""
    names = [name for name in costs if costs[name].bounded]
    if not names or len(names) < len(costs):
        return Estimate()
    weights = [volumes.get(name, 0.0) for name in names]
    weights = weights if sum(weights) > 0 else [1.0] * len(names)
    total = sum(weights)
    value, low, high = (
        sum(w * float(getattr(costs[name], part)) for w, name in zip(weights, names, strict=True)) / total
        for part in ("value", "low", "high")
    )
    return Estimate(value, low, high, min((costs[name].n or 0) for name in names))


def saving(base: Estimate, other: Estimate) -> Estimate:
    """1 - other / base; its ends take the least and most favourable ends of both, so it is never too narrow."""
    if not (base.bounded and other.bounded) or min(base.value or 0, base.low or 0) <= 0:
        return Estimate()
    value, low, high = (
        1 - float(a or 0) / float(b or 1)
        for a, b in ((other.value, base.value), (other.high, base.low), (other.low, base.high))
    )
    return Estimate(value, low, high, min(base.n or 0, other.n or 0) or None)


def chosen(task: TaskLine, hints: Mapping[str, TaskFound], order: Sequence[str]) -> str | None:
    """The variant to put forward for a task, by the half of the items that is kept for choosing.

    The first in `order` (cheapest first) that is accepted on that half; without one, the first whose change lies
    within
    the allowed drop; None where there is neither.
    """
    known = [name for name in order if name in hints]
    accepted = [name for name in known if hints[name].verdict == "accept"]
    if accepted:
        return accepted[0]
    within = [
        name
        for name in known
        if (change := hints[name].change.value) is not None
        and change >= -task.allowed_drop
        and hints[name].verdict != "reject"
    ]
    return within[0] if within else None


def routed(
    tasks: Sequence[TaskLine],
    variants: Sequence[Variant],
    choice: Mapping[str, str | None],
    costs: Mapping[str, Mapping[str, Estimate]],
    base: str,
) -> tuple[Route, ...]:
    """A variant for each task: the chosen one where it is accepted on the other half of the items, else the base.

    Args:
        costs: variant -> task -> money for 1,000 requests.
    """
    by_name = {variant.name: variant for variant in variants}
    routes: list[Route] = []
    for task in tasks:
        name = choice.get(task.name)
        found = by_name[name].on(task.name) if name in by_name else None
        verdict = found.verdict if found is not None else "not_tested"
        goes = name if name is not None and verdict == "accept" else base
        reason = _unchosen(task.name, variants, base) if name is None else _REASON.get(verdict, "none")
        month = task.volume / 1000
        routes.append(
            Route(
                task.name, goes, task.volume,
                costs.get(base, {}).get(task.name, Estimate()).scaled(month),
                costs.get(goes, {}).get(task.name, Estimate()).scaled(month), reason,
            )
        )  # fmt: skip
    return tuple(routes)


_REASON: Mapping[str, str] = {name: name for name in ("accept", "reject", "undecided")}


def _unchosen(task: str, variants: Sequence[Variant], base: str) -> str:
    """Why no variant was put forward: all are rejected, something is open, or there was none."""
    known = [found.verdict for one in variants if one.name != base and (found := one.on(task)) is not None]
    if not known:
        return "none"
    return "reject" if all(verdict == "reject" for verdict in known) else "undecided"


def monthly(routes: Iterable[Route], base: str) -> Estimate:
    """What the routes save a month; the ends take the least and most favourable ends. Empty where a cost is unknown."""
    moved = [route for route in routes if route.variant != base]
    if not moved or not all(r.base_cost.bounded and r.cost.bounded for r in moved):
        return Estimate()

    def total(before: str, after: str) -> float:
        return sum(float(getattr(r.base_cost, before)) - float(getattr(r.cost, after)) for r in moved)

    counts = [n for r in moved for n in (r.base_cost.n, r.cost.n) if n is not None]
    return Estimate(
        total("value", "value"), total("low", "high"), total("high", "low"), min(counts, default=None)
    )


def worst(found: Iterable[TaskFound]) -> str:
    """The task with the lowest change; "" without any."""
    known = [(one.change.value, one.task) for one in found if one.change.value is not None]
    return min(known)[1] if known else ""


def pareto(variants: Sequence[Variant], base: str) -> frozenset[str]:
    """Variants that no other beats in both cost and worst change (the base stands at change 0)."""
    points = {
        one.name: (one.cost.value, 0.0 if one.name == base else change)
        for one in variants
        if one.cost.value is not None and (change := _worst_change(one, base)) is not None
    }
    return frozenset(
        name
        for name, (cost, change) in points.items()
        if not any(
            other != name and c <= cost and d >= change and (c, d) != (cost, change)
            for other, (c, d) in points.items()
        )
    )


def _worst_change(variant: Variant, base: str) -> float | None:
    if variant.name == base:
        return 0.0
    found = variant.on(variant.worst)
    return None if found is None else found.change.value
