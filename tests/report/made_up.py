"""A made-up decision with three tasks, one of them arithmetic: what the report is tested and looked at with."""

from __future__ import annotations

from dataclasses import replace

from depthscope.advise.decision.sentences import headline, meeting
from depthscope.advise.decision.verdicts import needed, pareto, share
from depthscope.advise.decision.width import spoken
from depthscope.results.decision import (
    Decision,
    Depth,
    Estimate,
    LayerLine,
    Outputs,
    Regression,
    Route,
    Said,
    Step,
    TaskFound,
    TaskLine,
    Variant,
    Width,
    WidthLine,
)

HOSTILE = "</script><img src=x onerror=alert(1)> | ** \u202eevil \x1b[31m"
TASKS = ("mail sorting", "invoice sums", "order numbers")


def lines() -> tuple[TaskLine, ...]:
    kinds, volumes, marks = (
        ("choice", "math", "short_answer"),
        (120_000.0, 8_000.0, 30_000.0),
        ("B", "A", "B"),
    )
    return tuple(
        TaskLine(
            name, "Team 1", kind, volume, mark, mark, "default", "accuracy", None, 0.02 if mark == "B" else 0.01, 400,
            needed(0.02), 400 if kind == "math" else 0, 0, 0, ("generation",), "0" * 16,
        )
        for name, kind, volume, mark in zip(TASKS, kinds, volumes, marks, strict=True)
    )  # fmt: skip


def variants(hostile: str = HOSTILE) -> tuple[Variant, ...]:
    speed, scores = Estimate(900.0, 850.0, 940.0, 10), (340, 120, 300)
    base = Variant(
        "present-1b", "base", 30, (), "present-1b", "aa", 134_000_000, 269_000_000, 23_040.0, speed, speed,
        Estimate(4.0, 3.9, 4.2, 10), loss=Estimate(3.1, 3.0, 3.2, 24),
        tasks=tuple(
            TaskFound(name, share(k, 400), Estimate(), "base", by="generation") for name, k in zip(TASKS, scores,
            strict=True)
        ),
        math_verdict="base",
    )  # fmt: skip
    found = (
        TaskFound(TASKS[0], share(342, 400), Estimate(0.005, -0.0075, 0.0175, 400), "accept", p=0.6, lost=2, won=4,
        by="generation"),
        TaskFound(TASKS[1], share(80, 400), Estimate(-0.1, -0.13, -0.07, 400), "reject", "drop", p=1e-6, lost=44,
        won=4, by="generation"),
        TaskFound(TASKS[2], share(298, 400), Estimate(-0.005, -0.025, 0.015, 400), "undecided", "drop", 210, 0.8,
        9, 7, by="generation"),
    )  # fmt: skip
    cut = replace(
        base, name="ladder-3", kind="ladder", layers=27, removed=(7, 12, 13), tasks=found, step=5,
        math_verdict="reject",
        parameters=123_000_000, cost=Estimate(3.6, 3.55, 3.7, 10), saving=Estimate(0.1, 0.05, 0.15, 10),
        math=Estimate(-0.1, -0.13, -0.07, 400), accepted=TASKS[:1], rejected=TASKS[1:2], open=TASKS[2:],
        worst=TASKS[1],
        regressions=(Regression(TASKS[1], "17", hostile, "42", hostile, hostile, True),),
        outputs=(Outputs(TASKS[1], share(30, 400), share(12, 400), share(4, 400), Estimate(31.0, 29.0, 33.0, 400)),),
    )  # fmt: skip
    small = replace(
        cut, name=f"small <b>{hostile[:9]}", kind="sibling", layers=12, removed=(), step=4, regressions=(),
        outputs=(),
        tasks=tuple(replace(one, verdict="reject", reason="drop", more=None, change=Estimate(-0.2, -0.25, -0.15,
        400)) for one in found),
        cost=Estimate(1.5, 1.4, 1.6, 10), saving=Estimate(0.62, 0.6, 0.65, 10), accepted=(), rejected=TASKS, open=(),
    )  # fmt: skip
    beaten = pareto((base, small, cut), base.name)
    return tuple(replace(one, pareto=one.name in beaten) for one in (base, small, cut))


def decision(hostile: str = HOSTILE) -> Decision:
    effect = [Estimate(v, v * 0.9, v * 1.1, 8) for v in (0.4, 0.2, 0.1, 0.02)]
    depth = Depth(
        30, Estimate(16.0, 15.0, 18.0, 8), Estimate(1.1, 0.9, 1.3, 8), Estimate(0.4, 0.3, 0.5, 8),
        tuple(LayerLine(k, effect[0], one, effect[2], Estimate()) for k, one in enumerate(effect)), 8, "depth",
    )  # fmt: skip
    routes = tuple(
        Route(name, "ladder-3" if k == 0 else "present-1b", volume, Estimate(4.0 * volume / 1000,
        3.9 * volume / 1000, 4.2 * volume / 1000, 10),
              Estimate(3.6 * volume / 1000, 3.5 * volume / 1000, 3.7 * volume / 1000, 10), ("accept", "reject",
              "undecided")[k])
        for k, (name, volume) in enumerate(zip(TASKS, (120_000.0, 8_000.0, 30_000.0), strict=True))
    )  # fmt: skip
    widths = tuple(
        WidthLine(k, Estimate(n, n - 40.0, n + 40.0, 8), Estimate(n / 576, (n - 40) / 576, (n + 40) / 576, 8))
        for k, n in enumerate((504.0, 360.0, 144.0, 504.0))
    )
    width = Width(576, 0.05, widths, Estimate(0.2, 0.1, 0.3, 8), "width")
    every = tuple(Step(number, "done", spoken(width) if number == 7 else ()) for number in range(1, 9))
    made = Decision(
        "Help desk, third quarter", "present-1b", "EUR", (), (), (Said.of("risk.math", items=400),
        Said.of("risk.safety")), every,
        lines(), variants(hostile), depth, routes, "ladder-3", Estimate(48.0, 24.0, 84.0, 10),
        {"command": "depthscope decide", "seed": 0}, width,
    )  # fmt: skip
    made = replace(made, headline=headline(made))
    return replace(made, meeting=meeting(made, dict.fromkeys(TASKS, "ladder-3")))
