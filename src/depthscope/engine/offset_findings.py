"""From pairs of words to measurements: what offsets reach, what the vector does on the same pairs, and the way back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.function_given import UNSOLVED, reasoned
from depthscope.engine.needs import Facts
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

Columns = Mapping[str, np.ndarray]
OFFSETS = ("embedding", "unembedding", "state")
"""Where offsets are taken between words."""
AMONG_ALL = ("embedding, all tokens", "unembedding, all tokens")
"""The same where the nearest of all tokens is taken, as the vector does."""
HOW = (*OFFSETS, *AMONG_ALL, "vector", "nothing")
WITHOUT = f"{UNSOLVED}; or too few of its words are one token"
"""Why a task has no number."""


def found(parts: Mapping[str, Columns], facts: Facts) -> Findings:
    """Everything but the words.

    Args:
        parts: "pairs" (a row a pair of words), "tasks" (a row a task).
    """
    c, one = parts["pairs"], parts["tasks"]
    tasks = np.array(one["task"]).astype(str)
    items, by = Items(c["unit"], facts, 1, "groups of words"), {"task": tasks}
    own = np.where(c["task"][:, None] == tasks, 1.0, np.nan)
    offset = c["offset"]
    hit = np.concatenate([offset[:, :, 0], offset[:, : len(AMONG_ALL), 1], c["asked"][:, :2]], axis=1)
    vector = hit[:, HOW.index("vector"), None]
    variants = {**by, "variant": np.array(HOW)}
    note = "pairs of words of one token: nearest word of the task to x plus the offset of other groups, or the answer"
    whole, unit = _whole(c["unit"], hit)
    theirs = np.where(
        np.array([name.rpartition("/")[0] or name for name in unit])[:, None] == tasks, 1.0, np.nan
    )
    made = [
        items.mean(own[:, :, None] * hit[:, None], "accuracy", variants, "probability", note),
        Items(unit, facts, 1, "groups of words").mean(
            theirs[:, :, None] * whole[:, None], "group_accuracy", variants, "probability",
            "groups of words all of whose pairs are right",
        ),
        items.mean(
            own[:, :, None] * (vector - hit)[:, None], "vector_ahead", variants, "probability",
            "accuracy of the vector minus that of each, on the same pairs",
        ),
        items.mean(
            own * c["asked"][:, 2:], "involution", by, "probability",
            "words that come back when the vector is asked for its own answer",
        ),
        *_of_tasks(c, one, by),
    ]  # fmt: skip
    return Findings(
        {m.name: reasoned(m, WITHOUT) for m in made},
        examples={"tasks": _table(one, made[-1])},
        notes=_notes(one),
    )


def _whole(unit: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each group whether all of its pairs are right [group, how], and its name."""
    names = np.array(list(dict.fromkeys(unit.tolist())))
    return np.stack([hit[unit == name].min(0) for name in names]), names


def _of_tasks(c: Columns, one: Columns, by: Mapping[str, np.ndarray]) -> list[Measurement]:
    closed = np.array([float(c["closed"][c["task"] == task].any()) for task in by["task"]])
    missing = "" if np.isfinite(one["length"]).all() else WITHOUT
    axes = {**by, "variant": np.array(OFFSETS)}
    return [
        Measurement(
            "offset_length", axes, one["length"], "1", missing=missing,
            note="length of the mean offset over the mean length of offsets; 0: they cancel, 1: they are equal",
        ),
        Measurement("closed", by, closed, "1", note="1 where the pairs are circles that lead back to their start"),
    ]  # fmt: skip


def _notes(one: Columns) -> tuple[str, ...]:
    without = [str(t) for t, said in zip(one["task"], one["result"], strict=True) if str(said) != "a vector"]
    return (f"Offsets only, no vector: {', '.join(without)}.",) if without else ()


def _table(one: Columns, closed: Measurement) -> Table:
    return Table({
        "task": one["task"].astype(str), "pairs": one["pairs"], "circles": closed.value == 1,
        "result": one["result"].astype(str),
    }, "a row is a task; circles: its pairs lead back to where they start")  # fmt: skip
