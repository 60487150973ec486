"""Vectors of one in-context task, judged on queries without examples: at every state, and at the chosen one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.engine.function_task import (
    Asked,
    Injected,
    Shown,
    Writes,
    others,
    random_like,
    scored,
    strongest,
    times,
)
from depthscope.runtime.injection import injected_ends
from depthscope.runtime.model import Model

SWEPT = ("vector", "vector x2", "layer average", "random heads", "random direction")
"""What is added at every state."""
CHOSEN = 3
"""So many of SWEPT are swept on both halves of the queries, and get a state of their own; others take the vector's."""
ENDS = (*SWEPT, "nothing", "few heads", "many heads", "wrong examples")
"""What accuracies are given for at the chosen state."""


@dataclass(frozen=True)
class Added:
    """What is added to prompts without examples: at every state, and at the chosen one only."""

    swept: Injected
    ends: Injected

    @classmethod
    def of(
        cls,
        model: Model,
        taken: Shown,
        wrong: Shown,
        effect: np.ndarray | None,
        chosen: list[tuple[int, int]],
        seed: int,
    ) -> Added:
        """From prompts that were solved and prompts with wrong examples; `effect` is None without heads."""
        writes, misled, count = Writes.of(model, taken), Writes.of(model, wrong), len(chosen)
        vector = writes.vector(chosen)
        swept = {
            "vector": vector, "vector x2": times(vector, 2.0), "layer average": writes.states,
            "random heads": None if effect is None else writes.vector(others(effect, chosen, seed)),
            "random direction": random_like(vector, seed),
        }  # fmt: skip
        few, many = (
            ([], []) if effect is None else (strongest(effect, n) for n in (max(1, count // 5), 3 * count))
        )
        ends = {
            "nothing": torch.zeros_like(writes.states[0]), "few heads": writes.vector(few),
            "many heads": writes.vector(many), "wrong examples": misled.vector(chosen),
        }  # fmt: skip
        return cls(Injected(swept), Injected(ends))

    def judged(
        self, model: Model, prompts: Mapping[str, Sequence[Asked]], kept: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Scores of every query without examples, and the states that were chosen on the first half of them."""
        states = list(range(model.anatomy.n_layers + 1))
        both = Injected({name: self.swept.vectors[name] for name in SWEPT[:CHOSEN]})
        first = _scores(model, both, prompts["plain_taken"], kept["taken"], states)
        second = _scores(model, self.swept, prompts["plain_test"], kept["test"], states)
        best = _best(first)
        ends = _scores(model, self.ends, prompts["plain_test"], kept["test"], [best[0]])[:, :, 0]
        at = np.array([*best, *[best[0]] * (len(SWEPT) - CHOSEN)])
        own = second[:, np.arange(len(SWEPT)), at]
        mixed = [(best[k], self.swept.at(SWEPT[k], best[k])) for k in (0, 2)]
        after = _moved(model, prompts["shuffled"], kept["test"], mixed)
        wide = np.full((len(first), *second.shape[1:]), np.nan)
        wide[:, :CHOSEN] = first
        sweep = np.concatenate([wide, second])
        late = np.concatenate([own, ends], axis=1)
        return {
            "sweep": sweep, "ends": _below(late, len(first)), "mixed": _below(after, len(first)),
        }, np.array(best, float)  # fmt: skip


def _scores(
    model: Model, vectors: Injected, prompts: Sequence[Asked], kept: np.ndarray, states: list[int]
) -> np.ndarray:
    """Rank and probability, [query, vector, state, 2]; NaN for queries that were not solved with examples."""
    found = np.full((len(prompts), len(vectors.names), len(states), 2), np.nan)
    for k in np.flatnonzero(kept).tolist():
        found[k] = vectors.scores(model, prompts[k][0], int(prompts[k][1]), states)
    return found


def _moved(
    model: Model,
    prompts: Sequence[Asked],
    kept: np.ndarray,
    added: Sequence[tuple[int, torch.Tensor | None]],
) -> np.ndarray:
    """Rank and probability [query, vector, 2] of prompts with wrong examples, each vector added at its own state."""
    found = np.full((len(prompts), len(added), 2), np.nan)
    there = [k for k, (_, vector) in enumerate(added) if vector is not None]
    states, vectors = [added[k][0] for k in there], [v.to(model.device) for _, v in added if v is not None]
    for k in np.flatnonzero(kept).tolist() if there else ():
        ids, answer = prompts[k]
        ends = injected_ends(model, ids, states, torch.stack(vectors))
        found[k, there] = np.stack(scored(model, ends, int(answer)), axis=-1)
    return found


def _best(scores: np.ndarray) -> list[int]:
    """The state of the highest accuracy of each vector, of equal ones that of the highest mean probability."""
    if not np.isfinite(scores).any():
        return [scores.shape[2] // 3] * scores.shape[1]
    return [_peak(scores[:, k], scores.shape[2] // 3) for k in range(scores.shape[1])]


def _peak(scores: np.ndarray, otherwise: int) -> int:
    """The best state of one vector's scores [query, state, 2]; another one where there is no vector."""
    asked = scores[np.isfinite(scores[:, 0, 0])]
    if not len(asked):
        return otherwise
    return int(np.argmax((asked[..., 0] == 1).mean(0) + 1e-3 * asked[..., 1].mean(0)))


def _below(rows: np.ndarray, before: int) -> np.ndarray:
    """Rows of the second half of the queries behind NaN for those of the first."""
    return np.concatenate([np.full((before, *rows.shape[1:]), np.nan), rows])


def unmeasured(first: int, second: int, depth: int) -> dict[str, np.ndarray]:
    """What `Added.judged` gives where there is no vector: so many queries of each half, NaN everywhere."""
    rows = first + second
    return {
        "sweep": np.full((rows, len(SWEPT), depth + 1, 2), np.nan),
        "ends": np.full((rows, len(ENDS), 2), np.nan), "mixed": np.full((rows, 2, 2), np.nan),
    }  # fmt: skip
