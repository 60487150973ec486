"""From words of tasks, frequent, rare and invented, to measurements: what is done of each, and what is lost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.function_given import UNSOLVED, reasoned
from depthscope.engine.needs import Facts
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

Columns = Mapping[str, np.ndarray]
BUCKETS = ("frequent", "rare", "invented")
"""Kinds of words; the index is what rows hold."""
ADDED = ("vector", "random direction", "examples", "nothing")
NO_RULE = "no rule gives half of the task's answers, so an invented word has none"
WITHOUT = f"{UNSOLVED}; too few words; or {NO_RULE}"
"""Why a cell has no number."""
NOTE = "all tokens of the answer are the most likely ones, one after the other"


def found(parts: Mapping[str, Columns], facts: Facts, fewest: int) -> Findings:
    """Everything but the words.

    Args:
        parts: "words" (a row a word), "tasks" (a row a task). fewest: words that a cell needs.
    """
    c, one = parts["words"], parts["tasks"]
    tasks = one["task"].astype(str)
    items, by = Items(c["unit"], facts, fewest, "words"), {"task": tasks}
    axes = {**by, "bucket": np.array(BUCKETS)}
    own = np.where(c["task"][:, None] == tasks, 1.0, np.nan)
    kind = np.where(c["bucket"][:, None] == np.arange(len(BUCKETS)), 1.0, np.nan)
    cell = own[:, :, None] * kind[:, None]
    right, wide = cell[..., None] * c["right"][:, None, None], {**axes, "variant": np.array(ADDED)}
    accuracy = items.mean(right, "accuracy", wide, "probability", NOTE)
    over = Items(tasks, facts, 1, "tasks")
    mean = over.mean(
        accuracy.value, "accuracy_mean", {"bucket": axes["bucket"], "variant": np.array(ADDED)}, "probability",
        f"{NOTE}; mean over tasks",
    )  # fmt: skip
    made = [
        accuracy,
        mean,
        _lost(c, own, items, by),
        items.mean(cell * c["tokens"][:, None, None], "tokens", axes, "tokens", "of an input, behind a space"),
        items.mean(cell * c["count"][:, None, None], "frequency", axes, "1", "count of an input's rarest word"),
        Measurement("rule_share", by, one["share"], "1", note="answers that the best rule gives"),
    ]  # fmt: skip
    return Findings(
        {m.name: reasoned(m, WITHOUT) for m in made},
        examples={"words": _words(c), "tasks": _tasks(one)},
        notes=_notes(one),
    )


def _lost(c: Columns, own: np.ndarray, items: Items, by: Mapping[str, np.ndarray]) -> Measurement:
    """Accuracy on frequent words minus that on each other kind: a regression on being frequent."""
    frequent = c["bucket"] == 0
    design = np.stack([np.ones(len(frequent)), frequent], axis=1).astype(float)
    pairs = [np.where(frequent | (c["bucket"] == k), 1.0, np.nan) for k in (1, 2)]
    chosen = np.stack(pairs, axis=1)[:, None, :, None] * own[:, :, None, None]
    axes = {**by, "bucket": np.array(BUCKETS[1:]), "variant": np.array(ADDED)}
    return items.coefficient(
        chosen * c["right"][:, None, None], design, 1, "lost", axes, "probability",
        "accuracy on frequent words minus that on these", np.stack([frequent, ~frequent], axis=1),
    )  # fmt: skip


def _notes(one: Columns) -> tuple[str, ...]:
    silent = [str(t) for t, said in zip(one["task"], one["result"], strict=True) if str(said) == UNSOLVED]
    return (f"{UNSOLVED}: {', '.join(silent)}.",) if silent else ()


def _tasks(one: Columns) -> Table:
    names = ("task", "rule", "result")
    return Table(
        {name: one[name].astype(str) for name in names} | {"share": one["share"]},
        "a row is a task; rule: what gives most of its answers, and the share of them",
    )


def _words(c: Columns) -> Table:
    there = np.flatnonzero(c["bucket"] >= 0)
    right = c["right"][there]
    return Table(
        {name: c[name][there].astype(str) for name in ("task", "input", "answer")}
        | {"kind": np.array(BUCKETS)[c["bucket"][there]], "count": c["count"][there]}
        | {name.replace(" ", "_"): right[:, k] == 1 for k, name in enumerate(ADDED)},
        "a row is a word, and whether its whole answer was said",
    )
