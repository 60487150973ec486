"""A sentence is said only where its interval supports it; else the open form, with the items that are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import TASKS, decision, lines

from depthscope.advise.decision.sentences import (
    cost,
    depth,
    halves,
    headline,
    ladder,
    meeting,
    on_math,
    on_task,
)
from depthscope.advise.decision.stress import stressed
from depthscope.advise.decision.verdicts import share
from depthscope.results.decision import Decision, Estimate, Outputs, Step, Variant

CUT, TASK = "ladder-3", TASKS[0]


def variant() -> Variant:
    found = decision().variant(CUT)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("verdict", "reason", "more", "key"),
    [
        ("accept", "", None, "task.accept"),
        ("reject", "drop", None, "task.reject_drop"),
        ("reject", "threshold", None, "task.reject_threshold"),
        ("reject", "must_pass", None, "task.reject_must_pass"),
        ("undecided", "drop", 210, "task.open_drop"),
        ("undecided", "threshold", 50, "task.open_threshold"),
        ("undecided", "drop", None, "task.open_without_number"),
        ("undecided", "floor", None, "task.open_floor"),
    ],
)
def test_every_verdict_has_its_sentence(verdict: str, reason: str, more: int | None, key: str) -> None:
    found = replace(variant().tasks[0], verdict=verdict, reason=reason, more=more)  # pyright: ignore[reportArgumentType]
    said = on_task(variant(), found, lines()[0])
    assert said.key == key
    assert said.slots["more"] == more


@pytest.mark.parametrize(
    ("saving", "key"),
    [
        (Estimate(0.1, 0.05, 0.15, 9), "cost.less_money"),
        (Estimate(0.1, -0.05, 0.15, 9), "cost.open"),
        (Estimate(-0.1, -0.15, -0.05, 9), "cost.more"),
        (Estimate(0.1), "cost.unknown"),
    ],
)
def test_a_version_is_called_cheaper_only_where_the_whole_range_is(saving: Estimate, key: str) -> None:
    said = cost(replace(variant(), saving=saving), "EUR")
    assert said.key == key
    if key == "cost.more":
        assert said.slots["extra"] == {"value": 0.1, "low": 0.05, "high": 0.15, "n": 9}


def test_a_saving_far_beyond_the_layers_left_out_is_not_believed() -> None:
    made = replace(variant(), layers=27, removed=(3, 5, 17))  # a tenth
    assert cost(replace(made, saving=Estimate(0.41, 0.08, 0.62, 3)), "EUR").key == "cost.doubtful"
    assert cost(replace(made, saving=Estimate(0.12, 0.08, 0.2, 3)), "EUR").key == "cost.less_money"
    whole = decision()
    quick = replace(made, saving=Estimate(0.41, 0.3, 0.5, 3))
    others = tuple(quick if one.name == CUT else one for one in whole.variants)
    assert headline(replace(whole, variants=others))[1].key == "saving.doubtful"


def test_without_a_price_time_is_spoken_of() -> None:
    assert cost(variant(), "").key == "cost.less_time"


@pytest.mark.parametrize("verdict", ["accept", "reject", "undecided"])
def test_arithmetic_has_a_sentence_of_its_own(verdict: str) -> None:
    assert on_math(replace(variant(), math_verdict=verdict)).key == f"math.{verdict}"  # pyright: ignore[reportArgumentType]


def with_depth(**changes: Estimate) -> Decision:
    made = decision()
    assert made.depth is not None
    return replace(made, depth=replace(made.depth, **changes))


def test_depth_is_said_with_an_interval_or_called_open() -> None:
    assert depth(decision()).key == "depth.feeding"
    assert depth(with_depth(feeding=Estimate(16.0))).key == "depth.open"


@pytest.mark.parametrize(
    ("ratio", "keys"),
    [
        (Estimate(0.4, 0.3, 0.5), ["depth.later_less"]),
        (Estimate(1.4, 1.3, 1.5), ["depth.later_more"]),
        (Estimate(0.9, 0.7, 1.1), ["depth.later_open"]),
        (Estimate(0.4), []),
    ],
)
def test_halves_are_compared_only_where_the_interval_excludes_one(ratio: Estimate, keys: list[str]) -> None:
    assert [one.key for one in halves(with_depth(half_later=ratio, half_all=Estimate()))] == keys


def routed(reasons: tuple[str, ...], names: tuple[str, ...]) -> Decision:
    made = decision()
    routes = tuple(
        replace(route, reason=reason, variant=name)
        for route, reason, name in zip(made.routes, reasons, names, strict=True)
    )
    return replace(made, routes=routes)


BASE = "present-1b"


def test_the_first_line_follows_the_routes() -> None:
    every = headline(routed(("accept",) * 3, (CUT,) * 3))
    assert [one.key for one in every[:3]] == ["decision.all", "saving.month_money", "exceptions.math"]
    some = headline(routed(("accept", "reject", "undecided"), (CUT, BASE, BASE)))
    assert some[0].slots == {"variants": [CUT], "tasks": [TASKS[0]], "kept": list(TASKS[1:]), "base": BASE}
    held = headline(routed(("undecided", "reject", "reject"), (BASE,) * 3))
    assert [one.key for one in held] == [
        "decision.open", "saving.none", "exceptions.tasks", "confidence.limited", "next.items",
    ]  # fmt: skip
    assert held[0].slots["more"] == 210


def test_keeping_the_base_is_said_only_where_everything_was_rejected() -> None:
    made = routed(("reject",) * 3, (BASE,) * 3)
    sure = tuple(
        replace(one, tasks=tuple(replace(t, verdict="base" if one.kind == "base" else "reject",
        more=None) for t in one.tasks))
        for one in made.variants
    )  # fmt: skip
    assert [one.key for one in headline(replace(made, variants=sure))[::4]] == [
        "decision.keep",
        "next.retrain",
    ]
    alone = replace(made, variants=made.variants[:1])
    assert headline(alone)[0].key == "decision.nothing_to_compare"
    assert headline(alone)[3].key == "confidence.none"


def test_where_the_base_only_guesses_other_items_are_asked_for() -> None:
    made = routed(("undecided",) * 3, (BASE,) * 3)
    rows = tuple(
        replace(
            one, tasks=tuple(replace(t, verdict="undecided", reason="floor", more=None) for t in one.tasks)
        )
        for one in made.variants
    )
    said = headline(replace(made, variants=rows))
    assert [one.key for one in said[::4]] == ["decision.floor", "next.other_items"]
    mixed = (replace(rows[0], tasks=(replace(rows[0].tasks[0], reason="threshold"),)), *rows[1:])
    said = headline(replace(made, variants=mixed))
    assert [one.key for one in said[::4]] == ["decision.open_without_number", "next.more_items"]


def test_work_that_was_stopped_has_no_decision_and_names_the_next_step() -> None:
    steps = (Step(1, "done"), Step(2, "done"), *(Step(k, "stopped") for k in range(3, 9)))
    lines_ = headline(replace(decision(), routes=(), steps=steps))
    assert (lines_[0].key, lines_[0].slots["step"]) == ("decision.stopped", 2)
    assert (lines_[4].key, lines_[4].slots["step"]) == ("next.go_on", 3)


@pytest.mark.parametrize(
    ("saved", "key"),
    [
        (Estimate(48.0, 24.0, 84.0, 9), "saving.month_money"),
        (Estimate(48.0, -2.0, 84.0, 9), "saving.open"),
        (Estimate(48.0), "saving.share_money"),
    ],
)
def test_a_saving_is_claimed_only_where_all_of_it_is_above_zero(saved: Estimate, key: str) -> None:
    assert headline(replace(decision(), monthly=saved))[1].key == key


def test_sentences_for_the_meeting_cover_tasks_cost_arithmetic_and_depth() -> None:
    said = meeting(decision(), dict.fromkeys(TASKS, CUT))
    assert [one.key for one in said] == [
        "task.accept", "task.reject_drop", "task.open_drop", "cost.less_money", "math.reject", "depth.feeding",
    ]  # fmt: skip
    assert meeting(replace(decision(), depth=None), {}) == ()


def test_the_ladder_says_how_it_ended() -> None:
    assert ladder((), False)[0].key == "ladder.none"
    assert ladder((variant(),), True)[0].key == "ladder.stopped"
    assert ladder((variant(),), False)[0].slots == {"rungs": 1, "variant": CUT}


def test_stress_speaks_up_only_where_intervals_lie_apart() -> None:
    def outputs(repeated: int, n: int = 100) -> tuple[Outputs, ...]:
        return (Outputs(TASK, share(repeated, n), share(5, n), share(5, n), Estimate()),)

    base = replace(decision().variants[0], outputs=outputs(2))
    assert stressed((base, replace(variant(), outputs=outputs(4))), base)[0].key == "stress.calm"
    loud = stressed((base, replace(variant(), outputs=outputs(40))), base)
    assert [one.key for one in loud] == ["stress.more_repeats"]
    assert stressed((base,), base) == ()
