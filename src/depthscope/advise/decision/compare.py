"""A variant against the base: what was measured of both becomes one row of the core table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from depthscope.advise.cost import Cost, Speed
from depthscope.advise.decision.answers import malformed, repeats
from depthscope.advise.decision.evidence import Evidence, Lengths
from depthscope.advise.decision.sheet import Prices
from depthscope.advise.decision.verdicts import can_lose, judged, machine_cost, mixed, saving, share, worst
from depthscope.advise.paired import Comparison, compared
from depthscope.advise.scoring import Scores
from depthscope.materials.tasks import Item, Task
from depthscope.results.decision import Estimate, Outputs, Regression, TaskFound, TaskLine, Variant, Verdict

WORD: Mapping[str, Verdict] = {"holds": "accept", "fails": "reject", "undecided": "undecided"}


@dataclass(frozen=True)
class Matter:
    """One task with all that its verdict rests on.

    Args:
        by: the way that decides. choosing, judging: item ids of the two halves. math: ids that need arithmetic.
        must_pass: ids that may not be lost.
    """

    line: TaskLine
    task: Task
    by: str
    choosing: frozenset[str]
    judging: frozenset[str]
    math: frozenset[str]
    must_pass: frozenset[str]

    @property
    def chance(self) -> float:
        """The share that guessing gets right: one of the options of a choice, nothing elsewhere."""
        each = [1 / len(item.options) if item.options else 0.0 for item in self.task.items]
        return sum(each) / len(each)


def base_row(found: Evidence, matters: Sequence[Matter], prices: Prices) -> Variant:
    """The row of the base: its scores on the half that judges, without changes or verdicts."""
    costs = task_costs(found, matters, prices)
    row = _measured(found, costs, matters)
    tasks = tuple(_scored(found, matter, matter.by) for matter in matters)
    also = tuple(_scored(found, m, way) for m in matters for way in found.scores[m.task.name] if way != m.by)
    outputs = tuple(one for m in matters if (one := _outputs(found, m)) is not None)
    return replace(row, tasks=tasks, also=also, math_verdict="base", outputs=outputs)


def row(found: Evidence, base: Evidence, matters: Sequence[Matter], prices: Prices, seed: int = 0) -> Variant:
    """The row of a variant: verdicts by the half of the items that was not used to choose it."""
    costs = task_costs(found, matters, prices)
    made = _measured(found, costs, matters)
    tasks = tuple(_judged(found, base, m, m.judging, m.by, seed) for m in matters)
    ways = [(m, way) for m in matters for way in found.scores[m.task.name] if way != m.by]
    math_change, math_verdict = _math(found, base, matters, seed)
    return replace(
        made,
        tasks=tasks,
        also=tuple(_judged(found, base, m, m.judging, way, seed) for m, way in ways),
        saving=saving(
            mixed(task_costs(_timed_twice(base, found), matters, prices), _volumes(matters)), made.cost
        ),
        math=math_change,
        math_verdict=math_verdict,
        accepted=tuple(t.task for t in tasks if t.verdict == "accept"),
        rejected=tuple(t.task for t in tasks if t.verdict == "reject"),
        open=tuple(t.task for t in tasks if t.verdict == "undecided"),
        worst=worst(tasks),
        regressions=tuple(r for m in matters for r in _lost(found, base, m)),
        outputs=tuple(one for m in matters if (one := _outputs(found, m)) is not None),
    )


def _timed_twice(base: Evidence, found: Evidence) -> Evidence:
    """The base with the range of both its timings, before and right after the variant, so that drift is in it."""
    if found.beside is None:
        return base
    pairs = zip(base.cost.speed, found.beside.speed, strict=True)
    return replace(base, cost=replace(base.cost, speed=tuple(_both(a, b) for a, b in pairs)))


def drifted(base: Evidence, others: Iterable[Evidence]) -> Evidence:
    """The base with the range of all its timings, for what is said of several variants together."""
    for other in others:
        base = _timed_twice(base, other)
    return base


def _both(first: Speed, second: Speed) -> Speed:
    reads, writes = (first.prefill_range, second.prefill_range), (first.decode_range, second.decode_range)
    return Speed(
        first.batch,
        (first.prefill + second.prefill) / 2,
        (first.decode + second.decode) / 2,
        (min(r[0] for r in reads), max(r[1] for r in reads)),
        (min(w[0] for w in writes), max(w[1] for w in writes)),
    )


def hints(found: Evidence, base: Evidence, matters: Sequence[Matter], seed: int = 0) -> dict[str, TaskFound]:
    """What the half of the items that is kept for choosing says of a variant, by task."""
    return {m.line.name: _judged(found, base, m, m.choosing, m.by, seed) for m in matters}


def task_costs(found: Evidence, matters: Sequence[Matter], prices: Prices) -> dict[str, Estimate]:
    """Money for 1,000 requests of each task: machine time at the largest batch, or tokens as a vendor bills them.

    A version that was made here has no vendor's price: its cost is unknown where prices are by the token.
    """
    if prices.per_1k_tokens is None:
        seconds = {m.line.name: request_seconds(found.cost, found.lengths[m.task.name]) for m in matters}
        return {name: machine_cost(each, prices.per_hour) for name, each in seconds.items()}
    price = prices.per_1k_tokens if found.subject.kind == "base" else found.subject.price_per_1k_tokens
    return {m.line.name: _billed(found.lengths[m.task.name], price) for m in matters}


def request_seconds(cost: Cost, lengths: Lengths) -> Estimate:
    """Machine seconds of one request: prompt / reading speed + answer / writing speed, with the repeats' range."""
    speed = max(cost.speed, key=lambda one: one.batch)
    reads = sum(lengths.prompt) / len(lengths.prompt)
    writes = sum(lengths.answer) / len(lengths.answer)

    def seconds(prefill: float, decode: float) -> float:
        return reads / prefill + writes / decode

    return Estimate(
        seconds(speed.prefill, speed.decode),
        seconds(speed.prefill_range[1], speed.decode_range[1]),
        seconds(speed.prefill_range[0], speed.decode_range[0]),
        cost.repeats,
    )


def _billed(lengths: Lengths, price: float | None) -> Estimate:
    if price is None:
        return Estimate()
    each = [a + b for a, b in zip(lengths.prompt, lengths.answer, strict=True)]
    return _mean(each).scaled(price)


def _mean(values: Sequence[float]) -> Estimate:
    """A mean with its normal 95 % interval over items; without an interval for fewer than two."""
    n = len(values)
    mean = sum(values) / n if n else None
    if mean is None or n < 2:
        return Estimate(mean, n=n)
    half = 1.96 * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return Estimate(mean, mean - half, mean + half, n)


def _volumes(matters: Iterable[Matter]) -> dict[str, float]:
    return {m.line.name: m.line.volume for m in matters}


def _measured(found: Evidence, costs: Mapping[str, Estimate], matters: Sequence[Matter]) -> Variant:
    cost, subject = found.cost, found.subject
    speed = max(cost.speed, key=lambda one: one.batch)
    return Variant(
        subject.name, subject.kind, int(found.about["layers"]), subject.removed, str(found.about["model"]),
        str(found.about["weights_hash"])[:12], cost.parameters, cost.bytes, cost.kv_bytes,
        Estimate(speed.prefill, *speed.prefill_range, cost.repeats),
        Estimate(speed.decode, *speed.decode_range, cost.repeats),
        mixed(costs, _volumes(matters)), loss=found.loss, step=subject.step,
    )  # fmt: skip


def _scored(found: Evidence, matter: Matter, way: str) -> TaskFound:
    scores = found.scores[matter.task.name][way].only(matter.judging)
    score = share(sum(scores.correct), len(scores.correct))
    limit, every = matter.line.threshold, found.scores[matter.task.name][way]
    reason = "" if _telling(every, scores, matter) else "floor"
    if limit is not None and score.low is not None and score.high is not None and score.low < limit:
        reason = "threshold_missed" if score.high < limit else "threshold_open"
    return TaskFound(matter.line.name, score, Estimate(), "base", reason, by=way)


def _judged(
    found: Evidence, base: Evidence, matter: Matter, ids: Iterable[str], way: str, seed: int
) -> TaskFound:
    ids = frozenset(ids)
    whole, before = found.scores[matter.task.name][way], base.scores[matter.task.name][way]
    now, then = whole.only(ids), before.only(ids)
    pair = compared(then, now, matter.line.allowed_drop, seed=seed)
    score = share(sum(now.correct), len(now.correct))
    failed = _newly_wrong(before, whole, matter.must_pass)
    telling = _telling(before, then, matter)
    said = judged(WORD[pair.verdict], pair.more, score, matter.line.threshold, failed, telling)
    return TaskFound(
        matter.line.name, score, _change(pair), said.verdict, said.reason, said.more, pair.p, pair.lost, pair.gained,
        failed, way,
    )  # fmt: skip


def _telling(every: Scores, judging: Scores, matter: Matter) -> bool:
    """Whether a loss could show, by what the base has right of all items and of those that judge."""
    whole, part = (share(sum(one.correct), len(one.correct)) for one in (every, judging))
    return can_lose(whole, part, matter.chance, matter.line.allowed_drop)


def _change(pair: Comparison) -> Estimate:
    return Estimate(pair.difference, pair.low, pair.high, pair.n)


def _newly_wrong(before: Scores, now: Scores, ids: frozenset[str]) -> tuple[str, ...]:
    pairs = zip(before.ids, before.correct, now.correct, strict=True)
    return tuple(i for i, was, is_ in pairs if i in ids and was and not is_)


def _math(found: Evidence, base: Evidence, matters: Sequence[Matter], seed: int) -> tuple[Estimate, Verdict]:
    """The change on all judging items that need arithmetic together, held to the strictest limit among their tasks."""
    here = [m for m in matters if m.math & m.judging]
    if not here:
        return Estimate(), "not_tested"
    then, now = (_pooled(side, here) for side in (base, found))
    pair = compared(then, now, min(m.line.allowed_drop for m in here), seed=seed)
    return _change(pair), WORD[pair.verdict]


def _pooled(found: Evidence, matters: Sequence[Matter]) -> Scores:
    parts = [(m, found.scores[m.task.name][m.by].only(m.math & m.judging)) for m in matters]
    return Scores(
        "arithmetic",
        "generation",
        tuple(f"{m.line.name}: {i}" for m, part in parts for i in part.ids),
        tuple(c for _, part in parts for c in part.correct),
        tuple(s for _, part in parts for s in part.said),
    )


def _lost(found: Evidence, base: Evidence, matter: Matter) -> list[Regression]:
    """Items that the base gets right and the variant wrong, of both halves."""
    then, now = (side.scores[matter.task.name][matter.by] for side in (base, found))
    items = {item.id: item for item in matter.task.items}
    rows = zip(then.ids, then.correct, now.correct, then.said, now.said, strict=True)
    return [
        Regression(
            matter.line.name, i, items[i].prompt, _expected(items[i]), before, after, i in matter.must_pass
        )
        for i, was, is_, before, after in rows
        if was and not is_
    ]


def _expected(item: Item) -> str:
    return " / ".join(item.answers)


def _outputs(found: Evidence, matter: Matter) -> Outputs | None:
    """How written answers look, on all items; None where nothing was written."""
    scores = found.scores[matter.task.name].get("generation")
    if scores is None:
        return None
    items, lengths = matter.task.items, found.lengths[matter.task.name].answer
    n = len(items)
    return Outputs(
        matter.line.name,
        share(sum(map(repeats, scores.said)), n),
        share(sum(length > matter.task.length for length in lengths), n),
        share(sum(malformed(item, said) for item, said in zip(items, scores.said, strict=True)), n),
        _mean([float(length) for length in lengths]),
    )
