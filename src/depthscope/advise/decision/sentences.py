"""Which sentences may be said: each has its condition on an interval, and a form for when nothing is decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from depthscope.results.decision import Decision, Estimate, Route, Said, TaskFound, TaskLine, Variant

ENOUGH = 100
"""Items of a task below which its figures are called few."""
BELIEVED = 1.5
"""A saving is believed up to so many times the share of layers that are left out; embedding and head do not shrink."""


def headline(decision: Decision) -> tuple[Said, ...]:
    """The five lines of the first screen: decision, saving, exceptions, confidence, what to do next."""
    return (
        _decision(decision), _saving(decision), _exceptions(decision), _confidence(decision), _next(decision)
    )  # fmt: skip


def adopted(decision: Decision) -> tuple[Route, ...]:
    """The routes that leave the base."""
    return tuple(route for route in decision.routes if route.variant != decision.base)


def _decision(decision: Decision) -> Said:
    moved = adopted(decision)
    if not decision.routes:
        return Said.of(
            "decision.stopped", step=max((s.number for s in decision.steps if s.state == "done"), default=0)
        )
    names = sorted({route.variant for route in moved})
    kept = [route.task for route in decision.routes if route.variant == decision.base]
    if moved and not kept:
        return Said.of("decision.all", variants=names, tasks=[r.task for r in moved])
    if moved:
        return Said.of(
            "decision.some", variants=names, tasks=[r.task for r in moved], kept=kept, base=decision.base
        )
    nearest = waiting(decision)
    if nearest is not None:
        variant, found = nearest
        return Said.of(
            "decision.open", variant=variant.name, task=found.task, more=found.more, base=decision.base
        )
    if len(decision.variants) < 2:
        return Said.of("decision.nothing_to_compare", base=decision.base)
    if any(route.reason == "undecided" for route in decision.routes):
        return Said.of(
            "decision.floor" if _floor(decision) else "decision.open_without_number", base=decision.base
        )
    return Said.of("decision.keep", base=decision.base)


def waiting(decision: Decision) -> tuple[Variant, TaskFound] | None:
    """The undecided pair of variant and task that needs the fewest items more, or None."""
    found = [
        (task.more, index, place, variant, task)
        for index, variant in enumerate(decision.variants)
        for place, task in enumerate(variant.tasks)
        if task.verdict == "undecided" and task.more is not None
    ]
    if not found:
        return None
    _, _, _, variant, task = min(found, key=lambda one: one[:3])
    return variant, task


def _saving(decision: Decision) -> Said:
    moved = adopted(decision)
    if not moved:
        return Said.of("saving.none")
    unit = "money" if decision.currency else "time"
    names = {route.variant for route in moved}
    if any(one.name in names and doubtful(one) for one in decision.variants):
        return Said.of("saving.doubtful")
    if sum(route.volume for route in moved) > 0 and decision.monthly.bounded:
        if (decision.monthly.low or 0) > 0:
            return Said.of(
                f"saving.month_{unit}", saving=decision.monthly, volume=sum(r.volume for r in moved)
            )
        return Said.of("saving.open")
    found = decision.variant(moved[0].variant)
    if found is not None and found.saving.bounded:
        key = f"saving.share_{unit}" if (found.saving.low or 0) > 0 else "saving.open"
        return Said.of(
            key, **({"saving": found.saving, "variant": found.name} if key != "saving.open" else {})
        )
    return Said.of("saving.unknown")


def _exceptions(decision: Decision) -> Said:
    stay = [r.task for r in decision.routes if r.variant == decision.base and r.reason == "reject"]
    math = [
        v
        for v in decision.variants
        if v.name in {r.variant for r in adopted(decision)} and v.math_verdict == "reject"
    ]
    if math:
        return Said.of("exceptions.math", variant=math[0].name, change=math[0].math, tasks=stay)
    if stay:
        return Said.of("exceptions.tasks", tasks=stay)
    if not decision.routes:
        return Said.of("exceptions.unknown")
    open_ = [route.task for route in decision.routes if route.reason == "undecided"]
    return Said.of("exceptions.open", tasks=open_) if open_ else Said.of("exceptions.none")


def _confidence(decision: Decision) -> Said:
    judged = [found for v in decision.variants if v.name != decision.base for found in v.tasks]
    if not judged:
        return Said.of("confidence.none")
    fewest = min(found.score.n or 0 for found in judged)
    undecided = sum(found.verdict == "undecided" for found in judged)
    written = all(found.by == "generation" for found in judged)
    solid = fewest >= ENOUGH and undecided == 0 and written and not decision.risks
    key = "confidence.solid" if solid else "confidence.limited"
    return Said.of(key, fewest=fewest, undecided=undecided, judged=len(judged), notes=len(decision.risks))


def _next(decision: Decision) -> Said:
    if not decision.routes:
        done = max((s.number for s in decision.steps if s.state == "done"), default=0)
        return Said.of("next.go_on", step=min(done + 1, 8))
    nearest = waiting(decision)
    if adopted(decision):
        return Said.of("next.shadow")
    if nearest is not None:
        return Said.of("next.items", task=nearest[1].task, more=nearest[1].more)
    if any(route.reason == "undecided" for route in decision.routes):
        return Said.of("next.other_items" if _floor(decision) else "next.more_items")
    return Said.of("next.retrain")


def _floor(decision: Decision) -> bool:
    """Whether everything that is undecided is so because the base itself is near guessing."""
    undecided = [
        found.reason for one in decision.variants for found in one.tasks if found.verdict == "undecided"
    ]
    return bool(undecided) and set(undecided) == {"floor"}


def on_task(variant: Variant, found: TaskFound, line: TaskLine) -> Said:
    """What can be said of one variant on one task: accepted or rejected with its interval, or what is missing."""
    slots = {
        "variant": variant.name, "task": found.task, "change": found.change, "allowed": line.allowed_drop,
        "score": found.score, "threshold": line.threshold, "more": found.more, "failed": list(found.failed),
    }  # fmt: skip
    if found.verdict == "accept":
        return Said.of("task.accept", **slots)
    if found.verdict == "reject":
        return Said.of(f"task.reject_{found.reason}", **slots)
    if found.reason == "floor":
        return Said.of("task.open_floor", **slots)
    if found.more is None:
        return Said.of("task.open_without_number", **slots)
    return Said.of(f"task.open_{found.reason}", **slots)


def meeting(decision: Decision, focus: Mapping[str, str]) -> tuple[Said, ...]:
    """Sentences to read out: each task under the variant in focus, cost, items with arithmetic, depth.

    Args:
        focus: task -> the variant that is spoken of.
    """
    return tuple(_meeting(decision, focus))


def _meeting(decision: Decision, focus: Mapping[str, str]) -> Iterator[Said]:
    lines = {task.name: task for task in decision.tasks}
    spoken: list[str] = []
    for task, name in focus.items():
        variant = decision.variant(name)
        found = variant.on(task) if variant else None
        if variant is not None and found is not None:
            spoken += [name] if name not in spoken else []
            yield on_task(variant, found, lines[task])
    for name in spoken:
        variant = decision.variant(name)
        assert variant is not None  # spoken holds names that were found above
        yield cost(variant, decision.currency)
        if variant.math_verdict != "not_tested":
            yield on_math(variant)
    if decision.depth is not None:
        yield depth(decision)


def cost(variant: Variant, currency: str) -> Said:
    """Whether a variant is cheaper: only where the interval of the saving has one sign."""
    found = variant.saving
    if not found.bounded:
        return Said.of("cost.unknown", variant=variant.name)
    if doubtful(variant):
        whole = variant.layers + len(variant.removed)
        return Said.of("cost.doubtful", variant=variant.name, removed=len(variant.removed), layers=whole)
    if (found.low or 0) > 0:
        return Said.of(f"cost.less_{'money' if currency else 'time'}", variant=variant.name, saving=found)
    if (found.high or 0) < 0:
        return Said.of("cost.more", variant=variant.name, extra=_turned(found))
    return Said.of("cost.open", variant=variant.name)


def doubtful(variant: Variant) -> bool:
    """Whether a version saves far more than the share of layers it leaves out can give: a machine busy meanwhile."""
    if not variant.removed or variant.saving.value is None:
        return False
    return variant.saving.value > BELIEVED * len(variant.removed) / (variant.layers + len(variant.removed))


def on_math(variant: Variant) -> Said:
    """What a variant does to items that need arithmetic."""
    return Said.of(f"math.{variant.math_verdict}", variant=variant.name, change=variant.math)


def depth(decision: Decision) -> Said:
    """How many layers feed later tokens, where that has an interval."""
    found = decision.depth
    assert found is not None  # callers look first
    if not found.feeding.bounded:
        return Said.of("depth.open", prompts=found.prompts)
    return Said.of("depth.feeding", feeding=found.feeding, layers=found.layers, prompts=found.prompts)


def halves(decision: Decision) -> tuple[Said, ...]:
    """Whether late layers matter less, for later tokens and for all: only where the interval excludes 1."""
    found = decision.depth
    if found is None:
        return ()
    said: list[Said] = []
    for name, ratio in (("later", found.half_later), ("all", found.half_all)):
        if not ratio.bounded:
            continue
        word = "less" if (ratio.high or 0) < 1 else "more" if (ratio.low or 0) > 1 else "open"
        said.append(Said.of(f"depth.{name}_{word}", ratio=ratio))
    return tuple(said)


def ladder(variants: Sequence[Variant], stopped: bool) -> tuple[Said, ...]:
    """How far the ladder went, and why it ended."""
    if not variants:
        return (Said.of("ladder.none"),)
    last = max(variants, key=lambda one: len(one.removed))
    key = "ladder.stopped" if stopped else "ladder.whole"
    return (Said.of(key, rungs=len(variants), variant=last.name),)


def _turned(found: Estimate) -> Estimate:
    """The negative of an estimate, ends in order."""
    value, low, high = (None if part is None else -part for part in (found.value, found.high, found.low))
    return Estimate(value, low, high, found.n)
