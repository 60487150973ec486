"""Made-up results of what vectors and heads do in tasks, as pages, plots and verdicts read them."""

from __future__ import annotations

import numpy as np
from grammar_results import HEADS, LAYERS, made, result

from depthscope.results.result import Result

BY = {"layer": np.arange(LAYERS), "head": np.arange(HEADS)}
STATES = np.arange(LAYERS + 1)
SWEPT = ("vector", "vector x2", "layer average", "random heads", "random direction")
ENDS = (*SWEPT, "nothing", "few heads", "many heads", "wrong examples")
TASKS = ("antonym", "capital", "plural", "past")
USES = ("vector", "composed", "rebuilt", "random direction", "nothing")
TEXTS = ("vector", "random direction", "nothing")
WAYS = (
    "embedding", "unembedding", "state", "embedding, all tokens", "unembedding, all tokens", "vector", "nothing",
)  # fmt: skip
REACH = ("vector", "random direction", "examples", "nothing")
STRIPES = ("input_share", "end_share", "input_weight", "end_weight")


def function_vectors(lead: float = 0.6) -> Result:
    effect = np.zeros((LAYERS, HEADS))
    effect[4, 2], effect[3] = 0.3, np.nan
    reach = 1 / (1 + np.exp(STATES - 4.0))
    sweep = np.stack([lead * reach, 1.1 * lead * reach, 0.4 * reach, 0 * reach, 0.02 + 0 * reach])
    level = np.array([lead, 0.65, 0.4, 0.0, 0.02, 0.0, 0.3, 0.6, 0.1])
    each = np.stack([level, level, level, np.full(9, np.nan)])
    found = [
        made("indirect_effect", BY, effect),
        made("zero_shot_mean", {"variant": SWEPT, "state": STATES}, sweep),
        made("accuracy", {"task": TASKS, "variant": ENDS}, each),
        made("accuracy_mean", {"variant": ENDS}, level),
        made("vector_ahead", {"variant": ENDS}, lead - level),
        made("cosine", {"task": TASKS, "option": TASKS}, 0.2 + 0.8 * np.eye(4), "1"),
    ]
    return result("function_vectors", found)


def function_transfer(other: float = 0.1, composed: float = 0.5, rebuilt: float = 0.0) -> Result:
    own = np.eye(4, dtype=bool)
    added = np.tile([0.6, np.nan, rebuilt, 0.02, 0.0], (4, 1))
    added[3, 1] = composed
    sums = np.full((4, 4), np.nan)
    sums[3] = [0.8, 0.6, composed, 0.0]
    found = [
        made("transfer", {"task": TASKS, "option": TASKS}, np.where(own, 0.6, other)),
        made("accuracy", {"task": TASKS, "variant": USES}, added),
        made(
            "composition", {"task": TASKS, "variant": ("in context", "vector", "composed", "nothing")}, sums
        ),
        made(
            "vector_ahead",
            {"variant": ("other tasks", *USES[1:])},
            [0.6 - other, 0.6 - composed, 0.6 - rebuilt, 0.58, 0.6],
        ),
    ]
    return result("function_transfer", found)


def function_texts(hits: float = 0.3) -> Result:
    level = np.array([hits, 0.01, 0.02])
    found = [
        made("hit", {"task": TASKS, "variant": TEXTS}, np.stack([level, level, level, np.full(3, np.nan)])),
        made("hit_mean", {"variant": TEXTS}, level),
        made("hit_ahead", {"variant": TEXTS}, hits - level),
    ]
    return result("function_texts", found)


def function_offsets(vector: float = 0.7, closed: float = 1.0) -> Result:
    level = np.tile([0.9, 0.9, 0.9, 0.3, 0.35, vector, 0.0], (4, 1))
    level[1:, 5:] = np.nan
    circle = np.array([closed, 0.0, 0.0, 1.0])
    found = [
        made("accuracy", {"task": TASKS, "variant": WAYS}, level),
        made("vector_ahead", {"task": TASKS, "variant": WAYS}, level[:, 5:6] - level),
        made("involution", {"task": TASKS}, [0.5, np.nan, np.nan, np.nan]),
        made("closed", {"task": TASKS}, circle, "1"),
    ]
    return result("function_offsets", found)


def function_reach(invented: float = 0.5, frequent: float = 0.8, known: bool = True) -> Result:
    level = np.full((4, 3, 4), np.nan)
    level[:, 0], level[:, 1] = [frequent, 0.02, 0.9, 0.0], [frequent - 0.1, 0.02, 0.9, 0.0]
    level[2:, 2] = [invented, 0.02, 0.9, 0.0] if known else np.nan
    axes = {"task": TASKS, "bucket": ("frequent", "rare", "invented"), "variant": REACH}
    lost = {**axes, "bucket": ("rare", "invented")}
    return result(
        "function_reach", [made("accuracy", axes, level), made("lost", lost, level[:, :1] - level[:, 1:])]
    )


def fuzzy_induction() -> Result:
    grid = np.stack([np.linspace(-0.1, top, LAYERS * HEADS).reshape(LAYERS, HEADS) for top in (0.6, 0.2)])
    return result("fuzzy_induction", [made("advantage", {"relation": ("same", "synonym"), **BY}, grid)])


def iteration_heads(stripe: float = 0.98, accuracy: float = 0.99, without: float = 0.02) -> Result:
    share = np.full((LAYERS, HEADS), 0.05)
    share[1, 3], share[3] = stripe, np.nan
    gone = np.full((LAYERS, HEADS, 3), accuracy)
    gone[1, 3], gone[3] = without, np.nan
    found = [made(name, BY, share) for name in STRIPES]
    found += [
        made("accuracy", {"level": (4, 8)}, [accuracy, accuracy]),
        made("ablated_accuracy", {**BY, "variant": ("zero", "uniform", "mean")}, gone),
    ]
    return result("iteration_heads", found)


def mlp_memory() -> Result:
    by = {"layer": np.arange(LAYERS), "mode": ("positive", "negative")}
    rise = np.linspace(0.0, 0.1, LAYERS)[:, None] * np.array([1.0, 0.2])
    found = [
        made("agreement", by, rise),
        made("agreement_chance", by, 0 * rise + 0.001),
        made("value_probability", by, 0.02 + rise),
    ]
    return result("mlp_memory", found)


MADE = (
    function_vectors, function_transfer, function_texts, function_offsets, function_reach, iteration_heads,
    mlp_memory, fuzzy_induction,
)  # fmt: skip


def results() -> dict[str, Result]:
    return {one.analysis: one for one in (make() for make in MADE)}
