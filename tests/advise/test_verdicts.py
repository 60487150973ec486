"""Verdicts by hand: where an interval lies decides; where it does not, nothing is decided."""

from __future__ import annotations

import pytest
from made_up import TASKS, decision, lines, variants

from depthscope.advise.decision import verdicts
from depthscope.advise.decision.answers import malformed, repeats
from depthscope.advise.decision.risks import notes
from depthscope.advise.decision.verdicts import (
    can_lose,
    chosen,
    judged,
    mixed,
    monthly,
    pareto,
    routed,
    saving,
    share,
)
from depthscope.materials.tasks import Item
from depthscope.results.decision import Estimate, TaskFound

FINE = Estimate(0.9, 0.85, 0.94, 200)


def test_a_share_has_wilsons_interval() -> None:
    found = share(8, 10)  # (0.8 + 0.1921 -/+ 1.96 sqrt(0.016 + 0.0096)) / 1.3841
    assert found.value == 0.8
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert share(0, 0) == Estimate(n=0)
    assert share(0, 5).low == 0.0


def test_items_needed_follow_the_allowed_drop() -> None:
    assert verdicts.needed(0.02) == 480
    assert verdicts.needed(0.01) == 1920


@pytest.mark.parametrize(
    ("drop", "threshold", "failed", "telling", "verdict", "reason"),
    [
        ("accept", None, (), True, "accept", ""),
        ("accept", 0.8, (), True, "accept", ""),
        ("accept", 0.95, (), True, "reject", "threshold"),
        ("accept", 0.9, (), True, "undecided", "threshold"),
        ("undecided", None, (), True, "undecided", "drop"),
        ("reject", None, (), True, "reject", "drop"),
        ("accept", None, ("7",), True, "reject", "must_pass"),
        ("accept", None, (), False, "undecided", "floor"),
        ("reject", None, (), False, "reject", "drop"),
    ],
)
def test_a_verdict_needs_every_limit_on_one_side(
    drop: str, threshold: float | None, failed: tuple[str, ...], telling: bool, verdict: str, reason: str
) -> None:
    found = judged(drop, 30, FINE, threshold, failed, telling)  # pyright: ignore[reportArgumentType]
    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.more == (30 if (verdict, reason) == ("undecided", "drop") else found.more)


def test_a_threshold_says_how_many_items_would_settle_it() -> None:
    found = judged("accept", None, FINE, 0.88, ())
    assert found.more == 865 - 200  # 3.8415 x 0.09 / 0.02^2 = 864.3
    assert judged("accept", None, FINE, 0.9, ()).more is None


def test_a_test_that_nobody_passes_shows_no_loss() -> None:
    assert not can_lose(share(0, 200), share(0, 100), 0.0, 0.02)
    assert not can_lose(
        share(80, 200), share(40, 100), 0.33, 0.02
    )  # 0.40 with 0.33 by guessing: the interval begins at 0.335
    assert can_lose(share(120, 200), share(60, 100), 0.33, 0.02)


def test_where_less_is_right_than_may_be_lost_a_version_that_knows_nothing_would_pass() -> None:
    assert can_lose(share(14, 44), share(4, 22), 0.0, 0.15)
    assert not can_lose(share(14, 44), share(3, 22), 0.0, 0.15)  # 0.136: all of it may go within 0.15


def test_a_saving_takes_the_least_favourable_ends() -> None:
    found = saving(Estimate(4.0, 3.0, 5.0, 10), Estimate(2.0, 1.0, 2.4, 5))
    assert (found.value, found.low, found.high, found.n) == (0.5, pytest.approx(0.2), pytest.approx(0.8), 5)
    assert saving(Estimate(4.0), Estimate(2.0, 1.0, 3.0)) == Estimate()


def test_a_mix_is_weighed_by_volume_and_unknown_where_a_part_is() -> None:
    costs = {"a": Estimate(1.0, 0.5, 2.0, 9), "b": Estimate(4.0, 3.5, 5.0, 3)}
    assert mixed(costs, {"a": 2.0, "b": 1.0}) == Estimate(2.0, 1.5, 3.0, 3)
    assert mixed(costs, {}).value == 2.5
    assert mixed(costs | {"c": Estimate()}, {}) == Estimate()


def found(verdict: str, change: float) -> TaskFound:
    return TaskFound("sums", share(50, 100), Estimate(change, -0.5, 0.5, 100), verdict)  # pyright: ignore[reportArgumentType]


def test_the_cheapest_version_within_the_limit_is_put_forward() -> None:
    line = lines()[0]
    hints = {"cheap": found("undecided", -0.01), "mild": found("accept", 0.0), "bad": found("reject", -0.3)}
    assert chosen(line, hints, ("bad", "cheap", "mild")) == "mild"  # accepted before merely within
    assert chosen(line, {"bad": hints["bad"], "cheap": hints["cheap"]}, ("bad", "cheap")) == "cheap"
    assert chosen(line, {"bad": hints["bad"]}, ("bad",)) is None
    assert chosen(line, {"odd": found("undecided", -0.03)}, ("odd",)) is None


def test_a_task_leaves_the_base_only_where_the_other_half_accepts() -> None:
    rows, money = variants(), {name: Estimate(1.0, 0.9, 1.1, 5) for name in TASKS}
    costs = {"present-1b": {k: v.scaled(2.0) for k, v in money.items()}, "ladder-3": money}
    routes = routed(lines(), rows, dict.fromkeys(TASKS, "ladder-3"), costs, "present-1b")
    assert [(r.variant, r.reason) for r in routes] == [
        ("ladder-3", "accept"), ("present-1b", "reject"), ("present-1b", "undecided"),
    ]  # fmt: skip
    saved = monthly(routes, "present-1b")
    assert (saved.value, saved.low, saved.high) == (120.0, pytest.approx(84.0), pytest.approx(156.0))
    nothing = routed(lines(), rows, dict.fromkeys(TASKS), costs, "present-1b")
    assert [r.reason for r in nothing] == ["undecided", "reject", "undecided"]
    assert monthly(nothing, "present-1b") == Estimate()


def test_what_another_version_beats_is_not_on_the_front() -> None:
    assert {one.name for one in variants() if one.pareto} == {"present-1b", "ladder-3", variants()[1].name}
    base, small, cut = variants()
    worse = {"name": "worse", "cost": Estimate(3.7, 3.6, 3.8)}
    from dataclasses import replace

    assert "worse" not in pareto((base, small, cut, replace(cut, **worse)), base.name)


def test_notes_come_only_when_they_are_triggered() -> None:
    plain = {
        "flags": (),
        "family": "llama",
        "chat_template": False,
        "own_text": True,
        "quantised_after": False,
    }
    quiet = [line for line in lines() if not line.math]
    assert notes(quiet, variants()[:1], **plain) == ()
    every = notes(
        lines(), variants(), flags=("dates", "codes", "regulated", "multi_step", "tools"), family="odd",
        chat_template=True, own_text=False, quantised_after=True,
    )  # fmt: skip
    assert [one.key.removeprefix("risk.") for one in every] == [
        "math", "dates", "codes", "regulated", "multi_step", "family", "healing", "chat", "safety", "domain",
        "quantised",
    ]  # fmt: skip


def test_answers_that_go_in_circles_or_have_no_form_are_seen() -> None:
    assert repeats("yes it is " * 6)
    assert not repeats("one two three four five six seven eight nine ten eleven twelve thirteen")
    assert not repeats("no no no")
    number, letter = (
        Item("1", "1 + 1 =", ("2",), "number"),
        Item("2", "?", ("late",), "letter", ("late", "paid")),
    )
    assert malformed(number, "no idea")
    assert not malformed(number, "it is 3")
    assert malformed(letter, "perhaps")
    assert not malformed(letter, "(B)")
    assert not malformed(letter, "Late, I think")
    assert malformed(Item("3", "?", ("x",), "contains"), "  ")


def test_the_made_up_decision_says_what_was_planted() -> None:
    assert [one.key for one in decision().headline] == [
        "decision.some", "saving.month_money", "exceptions.math", "confidence.limited", "next.shadow",
    ]  # fmt: skip
