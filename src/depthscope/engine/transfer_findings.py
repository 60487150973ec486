"""From queries asked under many vectors to measurements: maps of tasks, sums of vectors, and what vectors say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.function_given import UNSOLVED, reasoned
from depthscope.engine.function_uses import OWN
from depthscope.engine.needs import Facts
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

Columns = Mapping[str, np.ndarray]
AHEAD = ("other tasks", *OWN[1:])
COMPOSED = ("in context", "vector", "composed", "nothing")
NO_SUM = "no square of tasks that have vectors leads to it"
WITHOUT = f"{UNSOLVED}; or {NO_SUM}"
"""Why a cell has no number."""
WHERE = "queries solved with examples, none shown; added at the last position"


def found(parts: Mapping[str, Columns], facts: Facts) -> Findings:
    """Everything but the words.

    Args:
        parts: "asked" (queries: ranks under every task's vector and under OWN), "tasks" (what each vector says).
    """
    asked = parts["asked"]
    tasks = asked["named"][0]
    own = np.where(asked["task"][:, None] == tasks, 1.0, np.nan)
    solved = np.where(asked["solved"], 1.0, np.nan)[:, None] * own
    items, by = Items(asked["unit"], facts, 1, "queries"), {"task": tasks}
    others, mine = _hits(asked["others"]), _hits(asked["own"])
    transfer = items.mean(
        solved[:, :, None] * others[:, None], "transfer", {**by, "option": tasks}, "probability",
        f"{WHERE}, the vector of each task (option) at its own state",
    )  # fmt: skip
    accuracy = items.mean(
        solved[:, :, None] * mine[:, None], "accuracy", {**by, "variant": np.array(OWN)}, "probability", WHERE
    )
    each = np.stack([asked["solved"].astype(float), mine[:, 0], mine[:, 1], mine[:, 4]], axis=1)
    each[np.isnan(mine[:, 1])] = np.nan  # tasks that no square leads to
    composition = items.mean(
        own[:, :, None] * each[:, None], "composition", {**by, "variant": np.array(COMPOSED)}, "probability",
        "all judged queries of tasks that a square leads to",
    )  # fmt: skip
    made = [
        transfer,
        accuracy,
        composition,
        _ahead(transfer, accuracy, tasks, facts),
        *_said(parts["tasks"], tasks),
    ]
    said = {m.name: reasoned(m, NO_SUM if m is composition else WITHOUT) for m in made}
    silent = [str(task) for task in tasks if task not in _with_vector(parts["tasks"])]
    notes = (f"{UNSOLVED}: {', '.join(silent)}.",) if silent else ()
    return Findings(said, examples={"decoded": _decoded(parts["tasks"])}, notes=notes)


def _with_vector(c: Columns) -> set[str]:
    """Tasks whose vector was decoded."""
    return set(c["task"][np.isfinite(c["likely"]).any(1)].tolist())


def _hits(rank: np.ndarray) -> np.ndarray:
    """Whether the answer is the likeliest token; NaN stays."""
    return np.where(np.isfinite(rank), (rank <= 1).astype(float), np.nan)


def _ahead(transfer: Measurement, accuracy: Measurement, tasks: np.ndarray, facts: Facts) -> Measurement:
    """The vector's accuracy minus that of each other thing, within tasks, mean over tasks."""
    off = np.where(np.eye(len(tasks), dtype=bool), np.nan, transfer.value)
    count = np.isfinite(off).sum(1)
    mean = np.where(count, np.nansum(off, axis=1) / np.maximum(count, 1), np.nan)
    ahead = accuracy.value[:, :1] - np.concatenate([mean[:, None], accuracy.value[:, 1:]], axis=1)
    note = "accuracy of the vector minus that of each (the mean of other tasks' vectors), mean over tasks"
    axes = {"variant": np.array(AHEAD)}
    return Items(tasks, facts, 1, "solved tasks").mean(ahead, "vector_ahead", axes, "probability", note)


def _said(c: Columns, tasks: np.ndarray) -> list[Measurement]:
    """How likely a vector finds its task's answers, and how near the rebuilt one came."""
    places = [int(np.flatnonzero(c["task"] == task)[0]) if task in c["task"] else -1 for task in tasks]
    numbers = np.stack([c["numbers"][k] if k >= 0 else np.full(3, np.nan) for k in places])
    named = (
        (
            "answers_said",
            "probability",
            "of the first tokens of all the task's answers, the vector alone decoded",
        ),
        ("said_difference", "nats", "KL(vector || rebuilt) over the tokens that were matched"),
        ("rebuilt_cosine", "1", "of the rebuilt vector to the vector"),
    )
    missing = "" if np.isfinite(numbers).all() else UNSOLVED
    return [
        Measurement(name, {"task": tasks}, numbers[:, k], unit, note=note, missing=missing)
        for k, (name, unit, note) in enumerate(named)
    ]


def _decoded(c: Columns) -> Table:
    there = [(row, k) for row in range(len(c["task"])) for k in np.flatnonzero(np.isfinite(c["likely"][row]))]
    return Table({
        "task": np.array([str(c["task"][row]) for row, _ in there], dtype=object),
        "token": np.array([str(c["words"][row, k]) for row, k in there], dtype=object),
        "probability": np.array([float(c["likely"][row, k]) for row, k in there]),
    }, "the likeliest tokens of softmax(W_U norm(v)) of each task's vector")  # fmt: skip
