"""From rows of in-context tasks to measurements: accuracies, effects of heads, curves over states, vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.measured import states
from depthscope.engine.needs import Facts
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

Columns = Mapping[str, np.ndarray]
UNSOLVED = (
    "the task is not solved in context, no query was solved, or the model has no heads: it has no vector"
)
MIXED = ("nothing", "vector", "layer average")


def found(
    parts: Mapping[str, Columns],
    facts: Facts,
    variants: tuple[tuple[str, ...], tuple[str, ...]],
) -> Findings:
    """Everything but the words.

    Args:
        parts: "asked" (prompts with examples), "effects", "plain" (queries without examples), "tasks".
        variants: what was added at every state, and at the chosen one.
    """
    tasks = parts["tasks"]["task"]
    by = {"task": tasks}
    swept, ends = variants
    without = _without_examples(parts["plain"], by, swept, ends, facts)
    made = [
        *_with_examples(parts["asked"], by, facts),
        *_effects(parts["effects"], by, facts),
        *without,
        *_over_tasks(without, facts),
        *_mixed(parts, by, facts),
        *_of_tasks(parts["tasks"], by, swept, facts),
    ]
    unsolved = [
        str(t) for t, v in zip(tasks, parts["tasks"]["vector"], strict=True) if not np.isfinite(v).all()
    ]
    note = (f"Not solved in context, so without a vector: {', '.join(unsolved)}.",) if unsolved else ()
    named = {m.name: m for m in made}
    tables = {"tasks": _table(parts, named), "queries": _queries(parts["plain"])}
    return Findings(named, examples=tables, notes=note)


def _own(task: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """[item, task]: 1 where an item belongs to a task, NaN elsewhere."""
    return np.where(task[:, None] == tasks, 1.0, np.nan)


def _with_examples(c: Columns, by: Mapping[str, np.ndarray], facts: Facts) -> list[Measurement]:
    items, own = Items(c["unit"], facts, 1, "prompts"), _own(c["task"], by["task"])
    right = (c["rank"] == 1).astype(float)
    proper = np.where(c["role"] < 2, 1.0, np.nan)[:, None] * own
    note = "the most likely token behind ten examples is the first one of the answer"
    return [
        items.mean(right[:, None] * proper, "in_context", by, "probability", note),
        items.mean(
            c["probability"][:, None] * proper, "in_context_probability", by, "probability", "of that token"
        ),
    ]


def _effects(c: Columns, by: Mapping[str, np.ndarray], facts: Facts) -> list[Measurement]:
    effect = c["effect"][..., : facts.n_heads]  # a model without heads has no column
    axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
    note = "gain in probability of the answer, one head's last-token output replaced by its mean over solved prompts"
    items = Items(c["unit"], facts, 1, "prompts")
    own = _own(c["task"], by["task"])
    mine = effect[:, None] * own[:, :, None, None]
    each = items.mean(mine, "indirect_effect_by_task", {**by, **axes}, "probability", note)
    solved = np.isin(by["task"], c["task"])
    over = Items(by["task"][solved], facts, 1, "solved tasks")
    return [
        each,
        over.mean(each.value[solved], "indirect_effect", axes, "probability", f"{note}; mean over tasks"),
    ]


def _without_examples(
    c: Columns, by: Mapping[str, np.ndarray], swept: tuple[str, ...], ends: tuple[str, ...], facts: Facts
) -> list[Measurement]:
    items, own = Items(c["unit"], facts, 1, "queries"), _own(c["task"], by["task"])
    last = np.isfinite(c["ends"]).any((1, 2))
    tested = np.where(last, 1.0, np.nan)[:, None] * own
    axes = {**by, "variant": np.array(swept), **states(facts)}
    sweep = c["sweep"][:, None] * tested[:, :, None, None, None]
    late = c["ends"][:, None] * tested[:, :, None, None]
    at = {**by, "variant": np.array(ends)}
    where = "queries solved with examples, none shown; added at the last position"
    chosen = f"{where}, at the state chosen on other queries"
    return [
        items.mean(_hits(sweep), "zero_shot", axes, "probability", where),
        items.mean(sweep[..., 1], "zero_shot_probability", axes, "probability", where),
        items.mean(_hits(late), "accuracy", at, "probability", chosen),
        items.mean(
            _hits(late, 3), "top3", at, "probability", f"{chosen}; among the three most likely tokens"
        ),
        items.mean(late[..., 1], "probability", at, "probability", chosen),
    ]


def _over_tasks(without: Sequence[Measurement], facts: Facts) -> list[Measurement]:
    """Means over tasks, and by how much the vector is ahead of all else in the same tasks."""
    named = {m.name: m for m in without}
    swept, late = named["zero_shot"], named["accuracy"]
    tasks = Items(np.asarray(late.axes["task"]), facts, 1, "solved tasks")
    ends = list(np.asarray(late.axes["variant"]).tolist())
    ahead = late.value[:, ends.index("vector"), None] - late.value
    at, note = {"variant": late.axes["variant"]}, "mean over tasks"
    over = {axis: labels for axis, labels in swept.axes.items() if axis != "task"}
    return [
        tasks.mean(swept.value, "zero_shot_mean", over, "probability", f"{swept.note}; {note}"),
        tasks.mean(late.value, "accuracy_mean", at, "probability", f"{late.note}; {note}"),
        tasks.mean(
            ahead, "vector_ahead", at, "probability", f"accuracy of the vector minus that of each; {note}"
        ),
    ]


def _hits(scores: np.ndarray, most: int = 1) -> np.ndarray:
    """Whether ranks are at most so high; NaN stays."""
    rank = scores[..., 0]
    return np.where(np.isfinite(rank), (rank <= most).astype(float), np.nan)


def _mixed(parts: Mapping[str, Columns], by: Mapping[str, np.ndarray], facts: Facts) -> list[Measurement]:
    """Prompts whose examples have others' outputs: as they are, and with a vector added."""
    c, plain = parts["asked"], parts["plain"]
    tested = np.asarray(np.isfinite(plain["ends"]).any((1, 2)))
    items, own = Items(plain["unit"][tested], facts, 1, "queries"), _own(plain["task"][tested], by["task"])
    clean = (
        np.concatenate([_shuffled(c, plain, tested, str(t)) for t in by["task"]])
        if tested.any()
        else np.zeros(0)
    )
    helped = _hits(plain["mixed"][tested])
    each = np.concatenate([clean[:, None], helped], axis=1)
    axes = {**by, "variant": np.array(MIXED)}
    note = "prompts whose examples have each other's outputs; queries solved with right examples"
    return [items.mean(each[:, None] * own[:, :, None], "shuffled", axes, "probability", note)]


def _shuffled(c: Columns, plain: Columns, tested: np.ndarray, task: str) -> np.ndarray:
    """Whether the prompts with wrong examples of a task's tested queries were right, in the order of the queries."""
    mine = plain["task"] == task
    right = (c["rank"][(c["task"] == task) & (c["role"] == 2)] == 1).astype(float)
    return right[tested[mine][int(mine.sum()) - len(right) :]]


def _of_tasks(
    c: Columns, by: Mapping[str, np.ndarray], swept: tuple[str, ...], facts: Facts
) -> list[Measurement]:
    late = "" if np.isfinite(c["states"]).all() else UNSOLVED
    bad = "" if np.isfinite(c["vector"]).all() else UNSOLVED
    count = c["states"].shape[1]
    norm = np.linalg.norm(c["vector"], axis=1)
    unit = c["vector"] / norm[:, None]
    pair = {"task": by["task"], "option": by["task"]}
    wide = {**by, "feature": np.arange(facts.d_model)}
    state, inside = (
        f"state index, 0 to {facts.n_layers}",
        "share of pairs whose answer begins with the query's first token",
    )
    cut = "pairs whose ids do not begin with those of the prompt"
    chosen = {**by, "variant": np.array(swept[:count])}
    return [
        Measurement("chosen_state", chosen, c["states"], "1", note=state, missing=late),
        Measurement("norm", by, norm, "1", note="length of the vector", missing=bad),
        Measurement("cosine", pair, unit @ unit.T, "1", note="between the vectors of two tasks", missing=bad),
        Measurement("vector", wide, c["vector"], "1", note="what is added to the stream", missing=bad),
        Measurement("shared_first", by, c["shared"], "probability", note=inside),
        Measurement(
            "intact", by, c["intact"], "probability", note="share of wrong examples with their own output"
        ),
        Measurement("dropped", by, c["dropped"].astype(float), "1", note=cut),
    ]


def _table(parts: Mapping[str, Columns], named: Mapping[str, Measurement]) -> Table:
    c = parts["tasks"]
    solved = np.asarray(np.isfinite(c["states"]).all(1))
    effect = named["indirect_effect_by_task"].value
    top = [
        " ".join(
            f"L{layer}.H{head} {effect[k, layer, head]:+.3f}" for layer, head in c["heads"][k] if layer >= 0
        )
        for k in range(len(solved))
    ]
    accuracy = named["accuracy"]
    first, nothing = (list(accuracy.axes["variant"]).index(n) for n in ("vector", "nothing"))
    said = [_result(s, bool(np.isfinite(v).all())) for s, v in zip(solved.tolist(), c["vector"], strict=True)]
    return Table({
        "task": c["task"].astype(str), "pairs": c["pairs"], "shots": c["shots"], "in_context": c["in_context"],
        "result": np.array(said), "state": c["states"][:, 0], "without": accuracy.value[:, nothing],
        "with_vector": accuracy.value[:, first], "heads": np.array(top),
    }, "a row is a task; its heads in order of their effects")  # fmt: skip


def _queries(c: Columns) -> Table:
    """What was asked without examples: analyses of the same vectors ask the same again."""
    return Table({
        "task": c["task"].astype(str), "input": c["input"].astype(str), "output": c["output"].astype(str),
        "judged": c["half"] == 1, "solved": c["solved"].astype(bool),
    }, "a row is a query; judged: figures are given for it; solved: with examples")  # fmt: skip


def _result(solved: bool, vector: bool) -> str:
    if not solved:
        return "task not solved in context"
    return "a vector" if vector else "a mean state only: the model has no heads"
